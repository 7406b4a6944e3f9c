//! Rules of HTTP that both planes need: hop-by-hop fields, forwarding fields, upgrades, pages, answers of origins, local
//! endpoints, lengths of bodies, trust in TLS.

pub mod body;

pub mod hop;

pub mod cloudflare;
pub mod forwarded;

pub mod upgrade;

pub mod relay;

pub mod websocket;

pub mod proxy_protocol;

pub mod page;

pub mod answer;

pub mod local;

pub mod strict;
pub mod trust;
