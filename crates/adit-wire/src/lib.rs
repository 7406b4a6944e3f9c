//! cloudflared's tunnel protocol without I/O.
