//! The closed set of `${…}` variables.

use crate::model::{ChainSpec, Name, NodeSpec, Trigger};

/// Variables known everywhere.
pub const NODE_VARS: &[&str] = &[
    "node.name",
    "node.home",
    "node.root",
    "node.data",
    "chain.host",
    "chain.port",
];
/// Variables known in hooks, beside those.
pub const UPGRADE_VARS: &[&str] = &["upgrade.name", "upgrade.height"];

/// A `${…}` that cannot be expanded: its byte range in the text, and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadVar {
    pub start: usize,
    pub end: usize,
    pub name: String,
    /// The `}` is there.
    pub is_closed: bool,
}

/// Replaces every `${name}` by what `value` says; those without a value are the error, all of them. `$${` stands for `${`.
pub fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, Vec<BadVar>> {
    let mut out = String::with_capacity(text.len());
    let mut bad = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find("${") {
        let start = at + found;
        if text[..start].ends_with('$') {
            out.push_str(&text[at..start - 1]);
            out.push_str("${");
            at = start + 2;
            continue;
        }
        out.push_str(&text[at..start]);
        let rest = &text[start + 2..];
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let (name, is_closed) = match rest.split_once('}') {
            Some((name, _)) if !name.contains("${") => (name, true),
            _ => (
                &rest[..rest.find(|c| !is_of_name(c)).unwrap_or(rest.len())],
                false,
            ),
        };
        at = start + 2 + name.len() + usize::from(is_closed);
        match value(name).filter(|_| is_closed) {
            Some(value) => out.push_str(&value),
            None => bad.push(BadVar {
                start,
                end: at,
                name: name.to_owned(),
                is_closed,
            }),
        }
    }
    out.push_str(&text[at..]);
    if bad.is_empty() { Ok(out) } else { Err(bad) }
}

/// The value of a variable of a node.
pub fn node_value(node: &NodeSpec, name: &str) -> Option<String> {
    Some(match name {
        "node.name" => node.name.to_string(),
        "node.home" => node.home.display().to_string(),
        "node.root" => node.root.display().to_string(),
        "node.data" => node.data.path.display().to_string(),
        "chain.host" => rpc_address(&node.chain)?.0,
        "chain.port" => rpc_address(&node.chain)?.1.to_string(),
        _ => return None,
    })
}

/// The value of a variable in a hook of an upgrade.
pub fn upgrade_value(
    node: &NodeSpec,
    upgrade: &Name,
    trigger: &Trigger,
    name: &str,
) -> Option<String> {
    match (name, trigger) {
        ("upgrade.name", _) => Some(upgrade.to_string()),
        ("upgrade.height", Trigger::Height(h)) => Some(h.to_string()),
        ("upgrade.height", Trigger::Manual) => Some("0".into()),
        _ => node_value(node, name),
    }
}

/// Host and port of the chain's RPC.
pub fn rpc_address(chain: &ChainSpec) -> Option<(String, u16)> {
    let ChainSpec::Evm { rpc, .. } = chain else {
        return None;
    };
    split_rpc(rpc)
}

/// Host and port of an `http(s)://` address.
pub fn split_rpc(rpc: &str) -> Option<(String, u16)> {
    let (rest, default) = match rpc.split_once("://")? {
        ("http", rest) => (rest, 80),
        ("https", rest) => (rest, 443),
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit('@').next()?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, after) = v6.split_once(']')?;
            (host, after.strip_prefix(':'))
        }
        None => authority
            .split_once(':')
            .map_or((authority, None), |(h, p)| (h, Some(p))),
    };
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "<>\"{}|\\^`,".contains(c);
    if host.is_empty() || host.contains(is_odd) {
        return None;
    }
    let port = port.map_or(Some(default), |p| p.parse().ok().filter(|&p| p != 0))?;
    Some((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_expand_and_unknown_ones_are_placed() {
        let value = |n: &str| (n == "a").then(|| "1".to_owned());
        assert_eq!(expand("x${a}y${a}", value), Ok("x1y1".into()));
        assert_eq!(expand("$${a}${a}", value), Ok("${a}1".into()));
        let bad = |start, end, name: &str, is_closed| BadVar {
            start,
            end,
            name: name.into(),
            is_closed,
        };
        assert_eq!(expand("é${b}", value), Err(vec![bad(2, 6, "b", true)]));
        assert_eq!(
            expand("${b}${a}${c}", value),
            Err(vec![bad(0, 4, "b", true), bad(8, 12, "c", true)])
        );
        assert_eq!(expand("${a/x", value), Err(vec![bad(0, 3, "a", false)]));
        assert_eq!(
            expand("${a ${b}", value),
            Err(vec![bad(0, 3, "a", false), bad(4, 8, "b", true)])
        );
    }

    #[test]
    fn rpc_addresses_are_split() {
        for (rpc, want) in [
            ("http://127.0.0.1:8545", Some(("127.0.0.1", 8545))),
            ("https://rpc.example/x?y", Some(("rpc.example", 443))),
            ("http://[::1]:99/", Some(("::1", 99))),
            ("ws://127.0.0.1:1", None),
            ("http://", None),
            ("http://h:0", None),
            ("http://h:x", None),
            ("http://h:99999", None),
            ("http://:80", None),
            ("http://a b/x", None),
        ] {
            assert_eq!(
                split_rpc(rpc),
                want.map(|(h, p)| (h.to_owned(), p)),
                "{rpc}"
            );
        }
    }
}
