"""The state machine of one analysis date: values and rules, no clock, no input or output."""
