"""What tracks are good for, to look at: ``taptr demo``."""
