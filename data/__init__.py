"""The data application: makes and reads what networks are trained on (`python -m data`)."""
