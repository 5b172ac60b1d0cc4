"""The same network behind other servers, each as its own documentation shows it.

They run in a virtual environment of their own, and are told by the environment what to serve.
"""
