"""Global features and the prototype matrix made of them."""
