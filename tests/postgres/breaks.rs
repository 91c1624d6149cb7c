//! What breaks between gateway and server while records flow in.
