//! `access`: which token a rule wants (cloudflared: `ingress/middleware/jwtvalidator.go`), from any issuer.

use std::sync::Arc;

use super::Ceiling;

/// Field in which Cloudflare Access sends its token.
const HEADER: &str = "Cf-Access-Jwt-Assertion";

/// Check of a visitor's token at the connector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Refuse requests without a valid token.
    pub required: bool,
    /// Whose keys sign the tokens: a team of Cloudflare Access.
    pub team_name: String,
    /// Audiences that are accepted.
    pub aud_tag: Vec<String>,
    /// Environment of the team, mostly empty.
    pub environment: String,
    /// Whose keys sign the tokens: any issuer, as a URL, in place of a team; ours.
    pub issuer: Option<String>,
    /// URL of the issuer's keys (JWKS), where it is not told by the issuer itself; ours.
    pub keys_url: Option<String>,
    /// Field of the request that holds the token, in place of `Cf-Access-Jwt-Assertion`; ours. In `Authorization` it
    /// follows `Bearer`.
    pub header: Option<String>,
    /// What the fetching of keys may reach, where the rule is not the connector's own.
    pub ceiling: Option<Arc<Ceiling>>,
}

impl Access {
    /// Who must have issued the token.
    #[must_use]
    pub fn issuer(&self) -> String {
        let domain =
            if self.environment == "fed" { "fed.cloudflareaccess.com" } else { "cloudflareaccess.com" };
        self.issuer.clone().unwrap_or_else(|| format!("https://{}.{domain}", self.team_name))
    }

    /// Where the issuer's keys are, if that is known without asking it.
    #[must_use]
    pub fn keys_url(&self) -> Option<String> {
        let of_team = || self.issuer.is_none().then(|| format!("{}/cdn-cgi/access/certs", self.issuer()));
        self.keys_url.clone().or_else(of_team)
    }

    /// The field that holds the token.
    #[must_use]
    pub fn header(&self) -> &str {
        self.header.as_deref().unwrap_or(HEADER)
    }

    /// The token in the field's value.
    #[must_use]
    pub fn token<'v>(&self, value: &'v [u8]) -> Option<&'v str> {
        let value = std::str::from_utf8(value).ok()?.trim();
        if !self.header().eq_ignore_ascii_case("authorization") {
            return Some(value).filter(|token| !token.is_empty());
        }
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_team_is_an_issuer_with_keys() {
        let team = Access { team_name: "acme".into(), ..Access::default() };
        assert_eq!(team.issuer(), "https://acme.cloudflareaccess.com");
        assert_eq!(
            team.keys_url().as_deref(),
            Some("https://acme.cloudflareaccess.com/cdn-cgi/access/certs")
        );
        let fed = Access { environment: "fed".into(), ..team };
        assert_eq!(fed.issuer(), "https://acme.fed.cloudflareaccess.com");
    }

    #[test]
    fn another_issuer_tells_its_keys_by_itself() {
        let own = Access { issuer: Some("https://id.example/realms/home".into()), ..Access::default() };
        assert_eq!((own.issuer().as_str(), own.keys_url()), ("https://id.example/realms/home", None));
    }

    #[test]
    fn tokens_are_taken_from_their_field() {
        let plain = Access::default();
        assert_eq!((plain.token(b" abc "), plain.token(b"")), (Some("abc"), None));
        let bearer = Access { header: Some("authorization".into()), ..Access::default() };
        assert_eq!((bearer.token(b"bearer abc"), bearer.token(b"Basic abc")), (Some("abc"), None));
    }
}
