"""One `saga` command a module, loaded when the command is typed. Commands do not import each other."""
