"""The command line. A command imports the heavy modules when it runs."""
