//! What a tunnel may be called. The name is also the name of a file.

use uuid::Uuid;

/// Bytes of a tunnel's name.
pub const NAME_BYTES_MAX: usize = 64;

/// Why a text is no name of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing is there.
    #[error("the name of a tunnel cannot be empty")]
    Empty,
    /// More than 64 bytes.
    #[error("the name of a tunnel has at most {NAME_BYTES_MAX} bytes")]
    TooLong,
    /// A character that is not allowed.
    #[error("the name of a tunnel cannot contain {0:?}: letters, digits, `-`, `_` and `.` are allowed")]
    Character(char),
    /// The first character is no letter or digit.
    #[error("the name of a tunnel begins with a letter or a digit")]
    Start,
    /// The name could be taken for an id.
    #[error("the name of a tunnel cannot be a UUID: that is its id")]
    Uuid,
}

/// Checks a name.
///
/// # Errors
/// [`NameError`] says what is wrong.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
    match name.chars().next() {
        None => return Err(NameError::Empty),
        Some(_) if name.len() > NAME_BYTES_MAX => return Err(NameError::TooLong),
        Some(first) if allowed(&first) && !first.is_ascii_alphanumeric() => return Err(NameError::Start),
        Some(_) => {}
    }
    if let Some(character) = name.chars().find(|c| !allowed(c)) {
        return Err(NameError::Character(character));
    }
    match Uuid::try_parse(name) {
        Ok(_) => Err(NameError::Uuid),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_as_file_names() {
        for name in ["p510", "cluster", "a", "my-tunnel_2.0", "0"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        let cases = [
            ("", NameError::Empty),
            ("..", NameError::Start),
            (".hidden", NameError::Start),
            ("a/b", NameError::Character('/')),
            ("../x", NameError::Start),
            ("a b", NameError::Character(' ')),
            ("ä", NameError::Character('ä')),
            ("6ff42ae2-765d-4adf-8112-31c55c1551ef", NameError::Uuid),
        ];
        for (name, error) in cases {
            assert_eq!(check_name(name), Err(error), "{name}");
        }
        assert_eq!(check_name(&"a".repeat(65)), Err(NameError::TooLong));
    }
}
