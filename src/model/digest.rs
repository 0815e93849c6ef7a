//! Content digests: SHA-256 and SHA-512, parsed from hex, compared, printed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::fmt;
use std::str::FromStr;

/// The digest that a file must have. Text form: `sha256:<64 hex>` or `sha512:<128 hex>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Digest {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    #[error("a digest starts with `sha256:` or `sha512:`")]
    Algorithm,
    #[error("{algorithm} has {want} hex digits, this has {found}")]
    Length {
        algorithm: &'static str,
        want: usize,
        found: usize,
    },
    #[error("`{0}` is not a hex digit")]
    NotHex(char),
}

impl Digest {
    pub fn sha256(text: &str) -> Result<Self, DigestError> {
        unhex("SHA-256", text).map(Self::Sha256)
    }

    pub fn sha512(text: &str) -> Result<Self, DigestError> {
        unhex("SHA-512", text).map(Self::Sha512)
    }

    /// The name of the algorithm and the digits, as used in file names: `sha256-<hex>`.
    pub fn file_name(&self) -> String {
        self.to_string().replace(':', "-")
    }

    /// The digest alone, in lower-case hex.
    pub fn hex(&self) -> String {
        match self {
            Self::Sha256(bytes) => hex(bytes),
            Self::Sha512(bytes) => hex(bytes),
        }
    }

    /// A hasher of this digest's algorithm.
    pub fn hasher(&self) -> Hasher {
        match self {
            Self::Sha256(_) => Hasher::Sha256(sha2::Sha256::new()),
            Self::Sha512(_) => Hasher::Sha512(sha2::Sha512::new()),
        }
    }
}

/// A running digest of either algorithm.
pub enum Hasher {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    pub fn sha256() -> Self {
        Self::Sha256(sha2::Sha256::new())
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(h) => h.update(bytes),
            Self::Sha512(h) => h.update(bytes),
        }
    }

    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(h) => Digest::Sha256(h.finalize().into()),
            Self::Sha512(h) => Digest::Sha512(h.finalize().into()),
        }
    }
}

/// SHA-256 of bytes, in lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&sha2::Sha256::digest(bytes))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex<const N: usize>(algorithm: &'static str, text: &str) -> Result<[u8; N], DigestError> {
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_hexdigit()) {
        return Err(DigestError::NotHex(bad));
    }
    if text.len() != N * 2 {
        return Err(DigestError::Length {
            algorithm,
            want: N * 2,
            found: text.len(),
        });
    }
    let digit = |b: u8| (b as char).to_digit(16).map_or(0, |d| d as u8);
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = digit(pair[0]) << 4 | digit(pair[1]);
    }
    Ok(out)
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(b) => write!(f, "sha256:{}", hex(b)),
            Self::Sha512(b) => write!(f, "sha512:{}", hex(b)),
        }
    }
}

impl FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text.split_once(':') {
            Some(("sha256", digits)) => Self::sha256(digits),
            Some(("sha512", digits)) => Self::sha512(digits),
            _ => Err(DigestError::Algorithm),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_read_back_what_they_print() {
        let text = format!("sha256:{}", sha256_hex(b"abc"));
        assert_eq!(text.parse::<Digest>().map(|d| d.to_string()), Ok(text));
        assert_eq!(
            Digest::sha256("abcd"),
            Err(DigestError::Length {
                algorithm: "SHA-256",
                want: 64,
                found: 4
            })
        );
        assert_eq!(Digest::sha512("z"), Err(DigestError::NotHex('z')));
    }

    #[test]
    fn the_known_digest_of_abc() {
        assert_eq!(
            sha256_hex(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
