//! One mistake is one finding: every key, value and header of a set is written wrong in every way that people write them wrong, one at
//! a time, and each time one finding stands on that line.

use crate::check::set;
use crate::plants::HEX;
use visor::check::check;

/// A set in which everything is named once, so that whatever is lost would be missed by something else.
fn base() -> String {
    format!(
        r#"visor = 1
[artifact.v2]
[[artifact.v2.file]]
urls = ["https://x.example/v2"]
sha256 = "{HEX}"
[artifact.v1]
[[artifact.v1.file]]
urls = ["https://x.example/v1"]
sha256 = "{HEX}"
[hook.disk]
run = ["/bin/true"]
[backup.daily]
keep = {{ last = 2 }}
[batch.spring]
upgrades = ["fork"]
[upgrade.fork]
trigger = {{ height = 10 }}
artifact = "v2"
backup = "daily"
hooks = {{ prepare = ["disk"] }}
nodes = {{ labels = {{ network = "main" }} }}
[node.val]
binary = "gethd"
home = "/var/lib/val"
genesis = "v1"
data = {{ path = "data" }}
labels = {{ network = "main" }}
chain = {{ kind = "evm", rpc = "http://127.0.0.1:8545" }}
"#
    )
}

/// What a check says of the base with one change: each finding with its line.
fn findings(what: &str, by: &str) -> (usize, Vec<String>) {
    let base = base();
    let at = base
        .find(what)
        .unwrap_or_else(|| panic!("`{what}` is not in the base"));
    let text = format!("{}{by}{}", &base[..at], &base[at + what.len()..]);
    let line = text[..at].matches('\n').count() + 1;
    let set = set(&[("m.toml", &text)]);
    let checked = check(&set);
    let said = checked.findings.iter().map(|f| {
        let (line, _) = set.files[0].position(f.place.start);
        format!("{line}: [{}] {} | {}", f.code.as_str(), f.message, f.help)
    });
    (line, said.collect())
}

/// One finding, on the line of the change or on the one behind it, and a help that says more than that it is wrong.
fn is_one(what: &str, by: &str, bad: &mut Vec<String>) {
    let (line, said) = findings(what, by);
    let lines = [line, line + by.trim_end().matches('\n').count()];
    let is_there = |said: &String| lines.iter().any(|l| said.starts_with(&format!("{l}: ")));
    if said.len() != 1 || !said.iter().all(is_there) {
        bad.push(format!(
            "{what:?} as {by:?} on line {line}:\n    {}",
            said.join("\n    ")
        ));
    }
}

/// The keys of the base with what stands around them.
const KEYS: &[&str] = &[
    "visor", "urls", "sha256", "run", "keep", "upgrades", "trigger", "artifact", "backup", "hooks",
    "nodes", "binary", "home", "genesis", "data", "labels", "chain",
];

/// A key's statement: its first in the base, at a line's start.
fn statement(key: &str) -> String {
    let base = base();
    let mut lines = base.lines();
    let line = lines.find(|l| l.strip_prefix(key).is_some_and(|r| r.starts_with(" =")));
    line.unwrap_or_else(|| panic!("no `{key}`")).to_owned()
}

#[test]
fn the_base_is_right() {
    assert_eq!(findings("visor = 1", "visor = 1").1, [""; 0]);
}

#[test]
fn a_key_that_is_written_wrong_is_one_finding() {
    let mut bad = vec![];
    for key in KEYS {
        let whole = statement(key);
        let rest = &whole[key.len()..];
        let value = rest.trim_start_matches([' ', '=']);
        for (latin, odd) in ["aа", "eе", "oо", "pр", "cс", "xх", "yу", "kк", "tт", "aä"]
            .map(|pair| pair.split_at(1))
        {
            if key.contains(latin) {
                is_one(
                    &whole,
                    &format!("{}{rest}", key.replacen(latin, odd, 1)),
                    &mut bad,
                );
            }
        }
        for before in [
            "$", "\"", "@", "- ", "!", "'", "export ", "set ", "“", "\u{a0}", "\u{200b}",
        ] {
            is_one(&whole, &format!("{before}{whole}"), &mut bad);
        }
        for behind in ["s", "'", "\"", "()", "[0]", " x", "\u{200b}"] {
            is_one(&whole, &format!("{key}{behind}{rest}"), &mut bad);
        }
        for joint in [" ", ": ", " == ", " := ", " => ", " -> "] {
            is_one(&whole, &format!("{key}{joint}{value}"), &mut bad);
        }
        for other in [
            key.to_uppercase(),
            format!("[{key}]"),
            format!("\"{key}\"x"),
        ] {
            is_one(&whole, &format!("{other}{rest}"), &mut bad);
        }
    }
    assert!(bad.is_empty(), "{} of them:\n{}", bad.len(), bad.join("\n"));
}

#[test]
fn a_value_that_is_written_wrong_is_one_finding() {
    let mut bad = vec![];
    // That of the version is its own rule, and `batch` may be anything but these.
    for key in KEYS {
        let whole = statement(key);
        for value in [
            "",
            "7",
            "true",
            "1.5",
            "2026-01-01",
            "\"",
            "[",
            "{",
            "''' ",
            "= =",
            ",",
            "]",
            "null",
        ] {
            // Any number is a version of the format, and these are right in some places.
            if (*key, value) == ("visor", "7") {
                continue;
            }
            is_one(&whole, &format!("{key} = {value}"), &mut bad);
        }
    }
    for (what, by) in [
        ("rpc = \"http", "url = \"http"),
        ("rpc = \"http", "endpoint = \"http"),
        ("rpc = \"http", "RPC = \"http"),
        ("binary = ", "program = "),
        ("run = ", "command = "),
        ("upgrades = ", "members = "),
        ("{ path = \"data\" }", "{ dir = \"data\" }"),
        ("{ height = 10 }", "{ block = 10 }"),
        ("kind = \"evm\"", "type = \"evm\""),
        ("sha256 = ", "checksum = "),
        (
            "labels = { network = \"main\" }\nchain",
            "labels.eu = { network = \"main\" }\nchain",
        ),
        ("data = ", "data.main = "),
        ("chain = ", "v1.0.0 = \"x\"\nchain = "),
        ("chain = ", "v1.0.0 = { x = 1 }\nchain = "),
        ("{ network = \"main\" }\nchain", "{ network = 5 }\nchain"),
        ("trigger = { height = 10 }\nartifact", "artifact"),
        ("artifact = \"v2\"\n", ""),
        ("prepare = [\"disk\"]", "prepare = "),
    ] {
        // What is taken out is missed at the object's header, one line above.
        if by == "artifact" || by.is_empty() {
            let (_, said) = findings(what, by);
            assert_eq!(said.len(), 1, "{what}: {said:?}");
        } else {
            is_one(what, by, &mut bad);
        }
    }
    assert!(bad.is_empty(), "{} of them:\n{}", bad.len(), bad.join("\n"));
}

#[test]
fn what_stands_behind_a_table_of_the_object_belongs_to_the_object() {
    let said = |what, by| findings(what, by).1;
    let header = said(
        "data = { path = \"data\" }",
        "[node.val.data]\npath = \"data\"",
    );
    let belongs = |line: usize, key: &str, owner: &str| {
        format!(
            "{line}: [V0101] there is no key `{key}` here | It belongs to `{owner}`: write it above this table."
        )
    };
    let rest = [belongs(28, "labels", "val"), belongs(29, "chain", "val")];
    assert_eq!(header, rest);
    // The same where the header lacks its object.
    let header = said("data = { path = \"data\" }", "[data]\npath = \"data\"");
    let astray =
        "26: [V0101] there is no kind `data`; an object of kind node has it | Write [node.val.data]."
            .to_owned();
    assert_eq!(header, [&[astray], &rest[..]].concat());
    let file = said("[artifact.v1]", "version = \"2\"\n[artifact.v1]");
    assert_eq!(file, [belongs(6, "version", "v2")]);
}

#[test]
fn headers_of_parts_find_their_object() {
    let mut bad = vec![];
    let health = "artifact = \"v2\"\nbackup";
    for (what, by) in [
        ("[[artifact.v2.file]]", "[[artifact.file]]"),
        ("[[artifact.v2.file]]", "[[file]]"),
        (
            "[hook.disk]\nrun = [\"/bin/true\"]",
            "[hook.disk]\nrun = [\"/bin/true\"]\n[hook.dsk.retry]\ntimes = 3",
        ),
        (
            "[hook.disk]\nrun = [\"/bin/true\"]",
            "[hook.disk]\nrun = [\"/bin/true\"]\n[hook.retry]\ntimes = 3",
        ),
        ("[hook.disk]", "[hook1]\nrun = [\"/bin/true\"]\n[hook.disk]"),
        ("trigger = { height = 10 }", "trigger = {\n  height = 10"),
        ("backup = \"daily\"", "backup = None"),
        ("run = [\"/bin/true\"]", "run = [\"/bin/true\""),
        (health, "node = \"val\"\nartifact = \"v2\"\nbackup"),
    ] {
        let (line, said) = findings(what, by);
        // `hook1` is an object that nothing names.
        let is_named = |s: &&String| !by.starts_with("[hook1]") || !s.contains("V0302");
        let said: Vec<&String> = said.iter().filter(is_named).collect();
        let last = line + by.matches('\n').count();
        let is_there =
            (line..=last).any(|l| said.len() == 1 && said[0].starts_with(&format!("{l}: ")));
        if !is_there {
            bad.push(format!("{what:?} as {by:?} on line {line}: {said:#?}"));
        }
    }
    assert!(bad.is_empty(), "{} of them:\n{}", bad.len(), bad.join("\n"));
    // A table between brackets may go over several lines.
    assert_eq!(findings("chain = {", "chain = {\n  ").1, [""; 0]);
}

#[test]
fn names_of_headers_keep_what_looks_like_a_property() {
    let mut bad = vec![];
    for (what, by) in [
        ("[hook.disk]", "[hook pre-run]"),
        ("[node.val]", "[node main-chain]"),
        ("[backup.daily]", "[backup/nightly-keep]"),
        ("[upgrade.fork]", "[upgrade v2-hooks]"),
    ] {
        let name = by
            .trim_matches(['[', ']'])
            .split([' ', '/'])
            .nth(1)
            .unwrap();
        let old = what.trim_matches(['[', ']']).split('.').nth(1).unwrap();
        let text = base()
            .replacen(what, by, 1)
            .replace(&format!("\"{old}\""), &format!("\"{name}\""));
        let said = check(&set(&[("m.toml", &text)])).findings;
        if said.len() != 1 || !said[0].help.contains(name) {
            bad.push(format!("{by}: {said:?}"));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn a_statement_that_cannot_be_read_loses_its_table_and_no_more() {
    let mut bad = vec![];
    for by in [
        "foo.bar = x y",
        "chan.rpc = http://x",
        "a..b = x y",
        "- node.b:",
        "args = nil",
        "\"node.q#x\" = 1 2",
    ] {
        is_one("home = ", &format!("{by}\nhome = "), &mut bad);
    }
    for by in [
        "artifact = nil",
        "artifact = # the release",
        "artifact = null # the release",
    ] {
        is_one("artifact = \"v2\"", by, &mut bad);
    }
    // Two mistakes, the second with a comment in its place.
    let (line, said) = findings("[hook.disk]", "[hook]\n[x] = [1] # a list\n[hook.disk]");
    let at = format!("{}: [V0002] ", line + 1);
    assert!(said.iter().any(|s| s.starts_with(&at)), "{said:?}");
    for by in ["[[[", "[", "[]", "]", "}"] {
        is_one("[node.val]", &format!("{by}\n[node.val]"), &mut bad);
    }
    assert!(bad.is_empty(), "{} of them:\n{}", bad.len(), bad.join("\n"));
}

#[test]
fn a_secret_that_is_no_text_is_not_repeated() {
    let base = base();
    for (value, code) in [
        ("hunter2", "V0002"),
        ("12345678", "V0102"),
        ("[12345678]", "V0102"),
    ] {
        let env = format!("env = {{ DB_PASSWORD = {value} }}\ngenesis");
        let mut set = set(&[("m.toml", &base.replacen("genesis", &env, 1))]);
        let said = check(&set).findings;
        visor::diag::mask(&said, &mut set.files);
        let shown = visor::diag::json(&said, &set.files)
            + &visor::diag::human(&said, &set.files, visor::diag::Style::plain(80));
        assert!(shown.contains(code) && said.len() == 1, "{shown}");
        assert!(!shown.contains(value.trim_matches(['[', ']'])), "{shown}");
    }
}

#[test]
fn a_name_with_a_nul_is_never_let_through() {
    for (what, by) in [
        ("[node.val]", "[node.\"val\\u0000m1\"]"),
        ("[upgrade.fork]", "[upgrade.\"fork\\u0000\"]"),
        ("[hook.disk]", "[hook.\"disk\\x00\"]"),
        (
            "{ network = \"main\" }\nchain",
            "{ network = \"main\", \"a\\u0000\" = \"x\" }\nchain",
        ),
        (
            "{ network = \"main\" }\nchain",
            "{ network = \"main\", \"\\u0000float\" = \"x\" }\nchain",
        ),
        ("genesis = ", "\"env\\U00000000\" = 5\ngenesis = "),
        ("[batch.spring]", "[\"\\u0000\"]\n[batch.spring]"),
        ("[batch.spring]", "x = ]\n[batch.\"spring\\u0000\"]"),
    ] {
        let (_, said) = findings(what, by);
        let nul = said.iter().filter(|s| s.contains("holds a NUL"));
        assert_eq!(nul.count(), 1, "{by}: {said:?}");
    }
}

#[test]
fn two_statements_on_a_line_are_one_finding_and_lose_none() {
    let mut bad = vec![];
    let base = base();
    let lines: Vec<&str> = base.lines().collect();
    for pair in lines.windows(2) {
        let is_statement = |l: &&str| !l.starts_with('[');
        if pair.iter().all(is_statement) {
            let joined = pair.join(" ");
            is_one(&pair.join("\n"), &joined, &mut bad);
            is_one(
                &pair.join("\n"),
                &joined.replacen("\" ", "\", ", 1),
                &mut bad,
            );
        }
    }
    assert!(bad.is_empty(), "{} of them:\n{}", bad.len(), bad.join("\n"));
}

#[test]
fn a_header_that_is_written_wrong_is_one_finding() {
    let mut bad = vec![];
    for header in [
        "[artifact.v2]",
        "[[artifact.v2.file]]",
        "[hook.disk]",
        "[backup.daily]",
        "[batch.spring]",
        "[upgrade.fork]",
        "[node.val]",
    ] {
        let inner = header.trim_matches(['[', ']']);
        let kind = inner.split('.').next().unwrap();
        let is_list = header.starts_with("[[");
        let with = |old: &str, new: &str| header.replacen(old, new, 1);
        for by in [
            header[..header.len() - 1].to_owned(),
            header[1..].to_owned(),
            header.replace('.', " "),
            header.replace('.', ":"),
            header.replace('.', "/"),
            header.replace('.', ".."),
            with(kind, &format!("{kind}s")),
            with(kind, &kind.to_uppercase()),
            with(kind, &format!("{}{}", &kind[..2], &kind[3..])),
            with("a", "а"),
            header.replace('.', ".\u{200b}"),
            format!("({inner})"),
            format!("{{{inner}}}"),
            format!("\"{inner}\""),
            format!("<{inner}>"),
            format!("{inner}:"),
            format!("{inner} {{"),
            format!("{header} x"),
            format!("{header} = 1"),
            format!("{header}]"),
            with("[", "[."),
        ] {
            if by != header {
                is_one(header, &by, &mut bad);
            }
        }
        if !is_list {
            is_one(header, &format!("[{header}"), &mut bad);
            is_one(header, &format!("[\"{inner}\"]"), &mut bad);
            is_one(header, &format!("{header}\n{header}"), &mut bad);
        }
    }
    assert!(bad.is_empty(), "{} of them:\n{}", bad.len(), bad.join("\n"));
}
