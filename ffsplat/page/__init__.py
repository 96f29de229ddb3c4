"""A scene as one page of HTML that shows and finds things without a server or a network."""
