"""What a launch is going to do: where, with what, at what cost, and what is new since the last one."""
