"""raytes: a GA4GH Task Execution Service (TES 1.1) whose engine is Ray."""

__version__ = "0.1.0"
