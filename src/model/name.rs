//! Names of objects. A name becomes a directory or a file name, so it is one path segment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A name that is one path segment: 1 to 128 of `A-Z a-z 0-9 . _ + -`, not starting with `.` or `-`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Name(String);

/// Why a text cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name cannot be empty")]
    Empty,
    #[error("a name has at most 128 characters, this one has {0}")]
    TooLong(usize),
    #[error("a name cannot start with `{0}`")]
    BadStart(char),
    #[error("`{0}` cannot stand in a name, which becomes a directory name")]
    BadChar(char),
}

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for a character that can stand in a name.
    pub fn may_hold(c: char) -> bool {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-')
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let first = text.chars().next().ok_or(NameError::Empty)?;
        if text.len() > 128 {
            return Err(NameError::TooLong(text.chars().count()));
        }
        if let Some(bad) = text.chars().find(|c| !Self::may_hold(*c)) {
            return Err(NameError::BadChar(bad));
        }
        if ".-".contains(first) {
            return Err(NameError::BadStart(first));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_path_segment() {
        for good in ["v2.0.0", "node-1", "A_b+c", "1"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "-flag", "a/b", "a\0b", "a b", "ä"] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
        assert_eq!(
            "x".repeat(129).parse::<Name>(),
            Err(NameError::TooLong(129))
        );
    }
}
