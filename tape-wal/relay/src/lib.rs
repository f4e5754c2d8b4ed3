//! Relays: what sends the feed of the Tape journal to other systems.
