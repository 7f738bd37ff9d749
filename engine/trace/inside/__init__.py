"""Code that runs in the locked child process. Nothing that it says is trusted."""
