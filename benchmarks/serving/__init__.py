"""How fast uploads become masks: the service beside the machine's limit and other servers."""
