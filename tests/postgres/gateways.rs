//! Several gateways in front of one server.
