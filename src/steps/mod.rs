//! What each command does, in the order in which it does it.
