//! What may be kept and used again: RFC 9111 as pure decisions, with RFC 5861 (stale answers), RFC 9211 (`Cache-Status`)
//! and RFC 9213 (targeted directives).
//!
//! A request has a [`key`], which is made of its parts as origins read them ([`reading`]), and what is not in the key does not
//! reach the origin ([`outgoing`]); what is stored under it was [`storable`], has a [`freshness`], varies with fields of the request
//! ([`vary`]), is asked about and confirmed ([`conditional`]), cut into parts ([`range`]), and made stale by changes
//! ([`invalidate`]). What the operator says about all of it is the [`rule`].

pub mod conditional;
pub mod directives;
pub mod freshness;
pub mod invalidate;
pub mod key;
pub mod outgoing;
pub mod range;
pub mod reading;
pub mod rule;
pub mod status;
pub mod storable;
pub mod time;
pub mod vary;

#[cfg(test)]
mod tests;
