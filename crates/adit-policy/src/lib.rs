//! Pure decisions of the edge and the connector.
//!
//! Everything here is a function of its arguments: no sockets, no files, no clock, no randomness. Time is an argument.
//! Names are [`host`], how a path is read is [`path`], what a tunnel may claim is [`grant`], the validated whole is [`snapshot`], how a name is
//! served is [`host_policy`], whose word counts is [`trust`], who gets a request is
//! [`route`], and what the connector does with it is [`ingress`].

pub mod limits;

pub mod host;

pub mod path;

pub mod grant;

pub mod snapshot;

pub mod host_policy;

pub mod shutoff;

pub mod trust;

pub mod field;

pub mod port;

pub mod quick;

pub mod shares;

pub mod route;

pub mod ingress;

pub mod cache;
pub mod capacity;

pub mod policy;
