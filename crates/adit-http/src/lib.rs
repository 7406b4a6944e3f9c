//! HTTP rules, bodies and pages.
