//! The tables of both files: their keys, what values are, and what they mean in a line.

/// A key: its name, the kinds of its value (see [`super::schema`]), and what it means.
pub(super) type Key = (&'static str, &'static str, &'static str);

/// A table.
pub(super) struct Table {
    /// Its name in the schema.
    pub(super) name: &'static str,
    /// What the decoders call it; `#` stands for a number or a name.
    #[cfg_attr(not(test), expect(dead_code, reason = "only the test compares"))]
    pub(super) what: &'static str,
    pub(super) keys: &'static [Key],
    /// Whether other keys are let be.
    pub(super) open: bool,
}

const fn table(name: &'static str, what: &'static str, keys: &'static [Key]) -> Table {
    Table { name, what, keys, open: false }
}

#[cfg(test)]
impl Table {
    /// Whether a decoder means this one.
    pub(super) fn is_of(&self, what: &str, is_edge: bool) -> bool {
        let file = match self.name {
            "edge-file" => is_edge,
            "connector-file" => !is_edge,
            _ => true,
        };
        let fits = self.what.split('|').any(|own| match own.split_once('#') {
            Some((start, end)) => what.starts_with(start) && what.ends_with(end),
            None => own == what,
        });
        file && fits
    }
}

macro_rules! policy_keys {
    ($($more:expr,)*) => { &[
        ("cache", "bool|'static|'assets|'api|@cache", "What is kept and used again"),
        ("rate-limit", "false|rate|@rate-limit", "How often a visitor may ask"),
        ("concurrency", "false|int|@concurrency", "How much a visitor may ask at the same time"),
        ("ban", "bool|@ban", "Who is banned for what"),
        ("headers", "@headers", "Fields that are set, added and removed"),
        ("security-headers", "bool|@security-headers", "Fields that protect browsers"),
        ("hsts", "bool|time|@hsts", "Browsers are told to come by HTTPS only"),
        ("body-limit", "false|size", "Largest body of a request"),
        ("compress", "bool|texts|@compress", "What is compressed, and how"),
        ("redirect", "false|text|@redirect|list @redirect", "Where visitors are sent instead"),
        ("rewrite", "false|@rewrite|list @rewrite", "What the origin is asked for instead"),
        ("respond", "false|int|@respond", "What is answered instead"),
        ("allow", "false|texts", "The only addresses that may come"),
        ("deny", "false|texts", "Addresses that may not come"),
        ("deny-mode", "'answer|'drop", "What those get who may not come"),
        ("methods", "false|texts", "The only methods that are let through"),
        ("error-page", "false|text|map", "Pages in place of the built-in ones"),
        ("maintenance", "bool|text", "What visitors read while it is taken out of service"),
        ("timeouts", "@timeouts", "How long things may take"),
        ("min-rate", "false|size|@min-rate", "How slow a client may be, in bytes per second"),
        $($more,)*
    ] };
}

const PATHS: Key =
    ("paths", "map @path-policy", "Expressions with what holds there; the first that fits counts");
const TLS: Key = ("tls", "'terminate|'passthrough", "Who ends TLS");
const CLIENTS: Key = ("client-certificates", "@client-certificates", "Visitors show a certificate");
const INGRESS: Key = ("ingress", "list @rule", "The rules; the first that fits counts");
const ORIGIN: Key = ("originRequest", "@origin-request", "How origins are talked to");
const WARP: Key = ("warp-routing", "@warp-routing", "Private networks");

pub(super) const TABLES: &[Table] = &[
    table(
        "edge-file",
        "the file",
        &[
            ("domain", "!text", "Host names live under it"),
            ("listen", "@listen", "Addresses"),
            ("http-mode", "'redirect|'serve", "What the plain HTTP listener does"),
            ("certificates", "list @certificate", "Certificates from files"),
            ("tunnels", "map @tunnel", "Tunnels that are declared here"),
            ("ports", "list @port", "TCP and UDP ports that lead into tunnels"),
            ("quick-tunnels", "@quick-tunnels", "Who gets throw-away names"),
            ("data-dir", "text", "Folder of the edge's state"),
            ("acme", "@acme", "Certificates by themselves"),
            ("http3", "bool", "Visitors are told of HTTP/3"),
            ("defaults", "@name-policy", "How all names are treated"),
            ("hostnames", "map @name-policy", "How some names are treated"),
            ("trusted", "'fly|'cloudflare|texts|@trusted", "Proxies whose word about visitors counts"),
            ("cache", "@cache-room", "Room for what is kept"),
            ("limits", "@limits", "How many connections and requests at the same time"),
            ("deny-lists", "texts", "Files of addresses that are kept out"),
            ("crowdsec", "@crowdsec", "A local API of CrowdSec"),
            ("access-log", "text", "A file, `stdout` or `off`"),
        ],
    ),
    Table {
        name: "connector-file",
        what: "the file",
        open: true,
        keys: &[
            ("tunnel", "text", "Id or name of the tunnel"),
            ("credentials-file", "text", "The tunnel's credentials"),
            ("edge", "texts", "Addresses of the edge"),
            ("cacert", "text", "Certificate authority of the edge"),
            ("protocol", "'auto|'quic|'http2", "Transport to the edge"),
            ("acme", "@acme", "Certificates that this connector ends TLS with"),
            ("data-dir", "text", "Folder of those certificates"),
            ("accept-rules", "false|@accept-rules", "What is accepted of rules that the edge pushes"),
            INGRESS,
            ORIGIN,
            WARP,
        ],
    },
    table(
        "listen",
        "`listen`",
        &[
            ("https", "texts", "HTTPS and HTTP/3"),
            ("http", "texts|false", "Plain HTTP; `off` for none"),
            ("tunnel", "texts", "Tunnels, on UDP and TCP"),
            ("admin", "text", "Health, metrics, state; never a public address"),
        ],
    ),
    table(
        "certificate",
        "a certificate",
        &[("cert", "!text", "Chain in PEM"), ("key", "!text", "Key in PEM")],
    ),
    table(
        "tunnel",
        "tunnel `#`",
        &[
            ("id", "text", ""),
            ("secret-file", "text", ""),
            ("hostnames", "texts", "What it may claim"),
            INGRESS,
            ORIGIN,
            WARP,
        ],
    ),
    table(
        "port",
        "a port",
        &[
            ("listen", "!text|int", ""),
            ("protocol", "'tcp|'udp", ""),
            ("tunnel", "!text", ""),
            ("to", "!text", ""),
            ("proxy-protocol", "'off|'v1|'v2", ""),
            ("idle-timeout", "time", ""),
        ],
    ),
    table("quick-tunnels", "`quick-tunnels`", &[("allow", "!texts", ""), ("limit", "int", "")]),
    table("trusted", "`trusted`", &[("from", "!texts", ""), ("header", "text", "")]),
    table(
        "cache-room",
        "`cache` at the top",
        &[
            ("folder", "text", ""),
            ("size", "size", "On disk; 0 for none"),
            ("memory", "size", ""),
            ("inactive", "time", "What nobody has used for that long goes"),
        ],
    ),
    table(
        "limits",
        "`limits`",
        &[
            ("connections", "int", "Of all visitors"),
            ("connections-per-address", "int", "Of one visitor; of IPv6, of one /64"),
            ("requests", "int", "In flight, of all visitors"),
            ("requests-per-address", "int", "In flight, of one visitor"),
            ("idle", "time", "How long a connection without requests is kept"),
        ],
    ),
    table(
        "crowdsec",
        "`crowdsec`",
        &[("url", "!text", ""), ("key-file", "!text", ""), ("interval", "time", "")],
    ),
    table(
        "acme",
        "`acme`",
        &[
            ("email", "text", ""),
            ("authorities", "any", ""),
            ("dns", "@dns", ""),
            ("challenges", "texts", ""),
            ("key", "text", ""),
            ("wildcards", "bool", ""),
        ],
    ),
    table(
        "authority",
        "an authority",
        &[
            ("directory", "!text", ""),
            ("ca", "text", ""),
            ("profile", "text", ""),
            ("external-account", "@external-account", ""),
        ],
    ),
    table("external-account", "`external-account`", &[("key-id", "!text", ""), ("key-file", "!text", "")]),
    table(
        "dns",
        "`dns`",
        &[
            ("provider", "!'rfc2136", ""),
            ("server", "!text", ""),
            ("zone", "text", ""),
            ("key-name", "!text", ""),
            ("key-file", "!text", ""),
            ("algorithm", "text", ""),
        ],
    ),
    table("client-certificates", "`client-certificates`", &[("ca", "!text", ""), ("required", "bool", "")]),
    table("name-policy", "`defaults`|a host name's entry", policy_keys![TLS, CLIENTS, PATHS,]),
    table("rule-policy", "`edge`", policy_keys![PATHS,]),
    table("path-policy", "what is said about a path", policy_keys![]),
    table(
        "cache",
        "`cache`",
        &[
            ("preset", "'static|'assets|'api", "A ready-made rule"),
            ("ttl", "time|map", "For answers that do not say it themselves, by status"),
            ("ignore", "texts", "cache-control, set-cookie"),
            ("key", "texts", "host, path, query, query(a), query(!a), header(a), cookie(a)"),
            ("bypass", "texts", "header(a), cookie(a), query(a)"),
            ("stale", "false|texts", "error, timeout, updating"),
            ("stale-for", "time", "How long after its end"),
            ("max-size", "size", "Of one answer"),
            ("lock-timeout", "time", "How long a visitor waits for another's fetch"),
            ("status-header", "bool", "X-Cache-Status"),
            ("slice", "false|size", "Large things are kept in slices"),
        ],
    ),
    table(
        "rate-limit",
        "`rate-limit`",
        &[
            ("rate", "!rate", "10/s, 30/min"),
            ("burst", "int", "At once beyond the pace"),
            ("key", "text", "address, identity, header(a), cookie(a), all"),
        ],
    ),
    table("concurrency", "`concurrency`", &[("requests", "!int", ""), ("key", "text", "")]),
    table(
        "ban",
        "`ban`",
        &[
            ("statuses", "texts", "Answers that count"),
            ("count", "int", "So many"),
            ("window", "time", "in this time"),
            ("time", "time", "ban for so long, twice as long the next time"),
            ("time-max", "time", "but no longer than this"),
            ("allow", "texts", "Addresses that are never banned"),
            (
                "shared",
                "bool",
                "true: the names of all tunnels; false: this name alone; otherwise the names of the same tunnel",
            ),
        ],
    ),
    table(
        "headers",
        "`headers`",
        &[
            ("preset", "'cloudflare|'none", "Fields that services behind another proxy read"),
            ("request", "@changes", ""),
            ("response", "@changes", ""),
        ],
    ),
    table(
        "changes",
        "fields that are changed",
        &[("set", "map", ""), ("add", "map", ""), ("remove", "texts", "")],
    ),
    table(
        "security-headers",
        "`security-headers`",
        &[
            ("frame-options", "text", ""),
            ("content-type-options", "text", ""),
            ("referrer-policy", "text", ""),
            ("permissions-policy", "text", ""),
            ("content-security-policy", "text", ""),
            ("cross-origin-opener-policy", "text", ""),
            ("cross-origin-embedder-policy", "text", ""),
            ("cross-origin-resource-policy", "text", ""),
        ],
    ),
    table("hsts", "`hsts`", &[("max-age", "time", ""), ("subdomains", "bool", ""), ("preload", "bool", "")]),
    table(
        "compress",
        "`compress`",
        &[
            ("codings", "texts", "zstd, br, gzip"),
            ("types", "texts", "text/html, text/*, +json"),
            ("min-size", "size", ""),
        ],
    ),
    table(
        "redirect",
        "`redirect`",
        &[
            ("from", "text", "An expression"),
            ("to", "!text", "With {host}, {path}, {query}, {uri}, $1"),
            ("status", "int", "301, 302, 303, 307, 308"),
        ],
    ),
    table("rewrite", "`rewrite`", &[("from", "!text", "An expression"), ("to", "!text", "With $1")]),
    table("respond", "`respond`", &[("status", "int", ""), ("body", "text", ""), ("type", "text", "")]),
    table(
        "timeouts",
        "`timeouts`",
        &[
            ("answer", "time", "To the first byte of the answer"),
            ("idle", "time", "Silence between two parts of it, of the origin or of the client"),
        ],
    ),
    table(
        "min-rate",
        "`min-rate`",
        &[
            ("request", "false|size", "Bytes per second of a request body"),
            ("response", "false|size", "Bytes per second of a response"),
            ("window", "time", "Waiting time over which the rate is measured"),
            ("grace", "time", "What the first measurement has beyond it"),
        ],
    ),
    table(
        "rule",
        "rule #",
        &[
            ("hostname", "text", ""),
            ("path", "text", "An expression"),
            ("service", "text", ""),
            ("services", "texts", ""),
            ORIGIN,
            ("edge", "@rule-policy", "How the edge treats requests of this rule"),
        ],
    ),
    table(
        "origin-request",
        "`originRequest`",
        &[
            ("connectTimeout", "time", ""),
            ("tlsTimeout", "time", ""),
            ("tcpKeepAlive", "time", ""),
            ("noHappyEyeballs", "bool", ""),
            ("keepAliveConnections", "int", ""),
            ("keepAliveTimeout", "time", ""),
            ("httpHostHeader", "text", ""),
            ("originServerName", "text", ""),
            ("matchSNItoHost", "bool", ""),
            ("caPool", "text", ""),
            ("noTLSVerify", "bool", ""),
            ("disableChunkedEncoding", "bool", ""),
            ("bastionMode", "bool", ""),
            ("proxyAddress", "text", ""),
            ("proxyPort", "int", ""),
            ("proxyType", "text", ""),
            ("ipRules", "list @ip-rule", ""),
            ("http2Origin", "bool", ""),
            ("access", "@access", ""),
            ("tlsCertificate", "text", "A file, or acme"),
            ("tlsKey", "text", ""),
            ("proxyProtocol", "text", ""),
            ("idleTimeout", "time", ""),
            ("balance", "text", ""),
            ("healthCheck", "@health-check", ""),
        ],
    ),
    table(
        "accept-rules",
        "`accept-rules`",
        &[
            ("services", "texts", "http://localhost:*, https://*.lan:443, unix:/run/app/*, bastion"),
            ("files", "texts", "Files that such rules may name"),
            (
                "ipRules",
                "list @ip-rule",
                "Where bastions, SOCKS clients and ports of the edge may go at most",
            ),
        ],
    ),
    table("ip-rule", "an IP rule", &[("prefix", "text", ""), ("ports", "any", ""), ("allow", "bool", "")]),
    table(
        "health-check",
        "`healthCheck`",
        &[
            ("path", "text", ""),
            ("interval", "time", ""),
            ("timeout", "time", ""),
            ("fall", "int", ""),
            ("rise", "int", ""),
        ],
    ),
    table(
        "access",
        "`access`",
        &[
            ("required", "bool", ""),
            ("teamName", "text", ""),
            ("audTag", "texts", ""),
            ("environment", "text", ""),
            ("issuer", "text", ""),
            ("keysUrl", "text", ""),
            ("header", "text", ""),
        ],
    ),
    table(
        "warp-routing",
        "`warp-routing`",
        &[
            ("enabled", "bool", ""),
            ("connectTimeout", "time", ""),
            ("maxActiveFlows", "int", ""),
            ("tcpKeepAlive", "time", ""),
            ("ipRules", "list @ip-rule", ""),
        ],
    ),
];
