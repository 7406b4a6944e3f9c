//! cloudflared's tunnel protocol as bytes: no sockets, no clock, no randomness.
//!
//! Both ends of Adit, and the real cloudflared, speak what stands here. The request path ([`connect`], [`fields`]) is
//! written by hand for speed; the capnp library carries the few calls of the control stream ([`rpc`]) and is the
//! oracle in the tests.

pub mod limits;

pub mod names;

pub mod features;

pub mod fields;

pub mod preamble;

pub mod connect;

pub mod packed;

pub mod frame;

pub mod window;

pub mod secret;

pub mod credentials;

pub mod token;

pub mod registration;

pub mod rpc;

pub mod configuration;

pub mod socks5;

pub mod datagram;
