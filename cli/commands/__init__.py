"""One `saga` command a module, imported when the command is used.

Commands do not import each other, except `worker`, which also starts the payment gateway and the observer.
"""
