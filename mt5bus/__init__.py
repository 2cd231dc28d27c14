"""The command group, the configuration, the home folder and the platform's processes."""
