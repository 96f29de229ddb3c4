"""The training application, run from the checkout: python -m train --help."""
