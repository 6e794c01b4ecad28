"""Pure rules of dialling: no I/O, no clock, no event loop, no logging. Time comes in as an argument."""
