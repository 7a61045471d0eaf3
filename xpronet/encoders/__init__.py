"""ResNets and BERTs: networks that others have trained, and their weights."""
