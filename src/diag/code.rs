//! The stable codes of findings. A code is never given to another rule.

use serde::Serialize;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $title:literal;)*) => {
        /// A rule that a finding comes from.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// The rule's name in words of the code, for programs that want one.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// What the rule is about, in a few words.
            pub fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)*
                }
            }
        }
    };
}

codes! {
    Unreadable = "V0001", "a manifest cannot be read";
    Syntax = "V0002", "a manifest is not TOML";
    Version = "V0003", "the manifest format is not said, or not known";
    Empty = "V0004", "there is nothing to check";
    UnknownKey = "V0101", "a key that does not exist";
    WrongType = "V0102", "a value of another type";
    MissingKey = "V0103", "a required key is missing";
    BadValue = "V0104", "a value that is not allowed";
    UnquotedName = "V0105", "a name with dots needs quotes";
    NoName = "V0106", "an object without a name";
    BadName = "V0201", "a name is not one path segment";
    Duplicate = "V0202", "a name is used twice";
    Dangling = "V0203", "a reference to nothing";
    NoMatch = "V0204", "a selector matches no node";
    SameHeight = "V0205", "two upgrades of one node at one height";
    NoDigest = "V0206", "an artifact needs exactly one digest";
    BadDigest = "V0207", "a digest of another form";
    BadDuration = "V0208", "a duration of another form";
    BadSize = "V0209", "a size of another form";
    BadSource = "V0210", "a source that cannot be fetched";
    UnknownVariable = "V0211", "a variable that does not exist";
    BadTrigger = "V0212", "a trigger is exactly one of its kinds";
    BadHook = "V0213", "a hook that cannot be run";
    BadPath = "V0214", "a path that cannot be used here";
    BadGlob = "V0215", "a glob of another form";
    BadChain = "V0216", "a chain that cannot be asked";
    SamePlatform = "V0217", "an artifact has two files for one platform";
    TooClose = "V0218", "an upgrade before the one before it can be confirmed";
    BatchOrder = "V0219", "a batch that is not in the order of its heights";
    BatchTwice = "V0220", "an upgrade in more than one place of batches";
    BadPlatform = "V0221", "a platform that does not exist";
    BadVariableName = "V0222", "an environment variable of another form";
    NoBackup = "V0301", "an upgrade without a backup";
    Unused = "V0302", "an object that nothing names";
    Secret = "V0303", "a secret written as a value";
    NoWayBack = "V0304", "a roll-back that cannot restore the data";
    OneArgument = "V0305", "several arguments in one text";
}

impl Code {
    /// True for rules that warn, unless they are denied.
    pub fn is_warning(self) -> bool {
        self.as_str().starts_with("V03")
    }
}

impl std::str::FromStr for Code {
    type Err = UnknownCode;
    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let found = Self::ALL
            .iter()
            .find(|c| c.as_str().eq_ignore_ascii_case(text));
        found.copied().ok_or_else(|| UnknownCode(text.to_owned()))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no finding {0}; codes look like V0101")]
pub struct UnknownCode(String);

impl schemars::JsonSchema for Code {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Code".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^V[0-9]{4}$" })
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique() {
        let all: std::collections::BTreeSet<&str> = Code::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(all.len(), Code::ALL.len());
    }
}
