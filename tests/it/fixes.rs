//! Edits are offered only where one is certainly right: a table of mistakes, and what becomes of them.

use crate::check::set;
use crate::plants::HEX;
use visor::check::check;
use visor::diag::{Finding, Fix};

/// A node, its artifact and an upgrade; mistakes are put into it.
fn base() -> String {
    format!(
        "visor = 1\n[node.n]\nbinary = \"b\"\nhome = \"/h\"\ndata = {{ path = \"d\" }}\nchain = {{ kind = \"evm\", rpc = \"http://127.0.0.1:1\" }}\ngenesis = \"g\"\n[artifact.g]\n[[artifact.g.file]]\nurls = [\"https://x.example/g\"]\nsha256 = \"{HEX}\"\n[upgrade.u]\ntrigger = {{ height = 5 }}\nartifact = \"g\"\n"
    )
}

fn findings(text: &str) -> Vec<Finding> {
    check(&set(&[("a.toml", text)])).findings
}

/// The text with all edits made, as `--fix` makes them.
fn fixed(text: &str) -> String {
    let found = findings(text);
    let mut fixes: Vec<&Fix> = found.iter().flat_map(|f| &f.fixes).collect();
    fixes.sort();
    let mut out = text.to_owned();
    for fix in fixes.iter().rev() {
        out.replace_range(fix.place.start..fix.place.end, &fix.text);
    }
    out
}

/// A part of the base, what stands in its place, and what the edits make of that; nothing where no edit is certain.
#[rustfmt::skip]
const TABLE: &[(&str, &str, Option<&str>)] = &[
    ("binary = \"b\"", "binary = geth;", Some("binary = \"geth\"")),
    ("binary = \"b\"", "binary = \"b\"\nargs = [\n  --http,\n]", Some("binary = \"b\"\nargs = [\n  \"--http\",\n]")),
    ("binary = \"b\"", "binary = \"b\"\nargs = [\n  \"--http\"\n  \"--ws\"\n]", Some("binary = \"b\"\nargs = [\n  \"--http\",\n  \"--ws\"\n]")),
    ("binary = \"b\"", "binary = \"b\"\nargs =\n  - \"a\"\n  - \"b\"", None),
    ("binary = \"b\"", "- binary = \"b\"", None),
    ("binary = \"b\"", "binary = \"b\"\nrehearse = true -- always", None),
    ("binary = \"b\"", "binary = \"b\"\nrehearse = tru", None),
    ("binary = \"b\"", "binary = \"b\"\nrehearse = yes", Some("binary = \"b\"\nrehearse = true")),
    ("binary = \"b\"", "binary = \"b\"\nprocess.nice = 5 /* x */", None),
    ("binary = \"b\"", "binary = \"b\"\nprocess.nice = 1 000", None),
    ("binary = \"b\"", "binary = \"b\"\nprocess.nice = 5\u{a0}", Some("binary = \"b\"\nprocess.nice = 5 ")),
    ("binary = \"b\"", "binary = \"b\"\nprocess.umask = 0027", Some("binary = \"b\"\nprocess.umask = \"0027\"")),
    ("binary = \"b\"", "binary = \"b\"\nlabels = { v = 10.0.0.1 }", Some("binary = \"b\"\nlabels = { v = \"10.0.0.1\" }")),
    ("binary = \"b\"", "binary = \"b\"\nstopp.grace = 5m", Some("binary = \"b\"\nstopp.grace = \"5m\"")),
    ("binary = \"b\"", "binary = \"b\"\nvisor = 2", None),
    ("height = 5 ", "height = 1,000,000 ", None),
    ("trigger = { height = 5 }", "trigger.height = 1,000,000", Some("trigger.height = 1000000")),
    ("artifact = \"g\"\n", "artifact = \"g\"\nbackup = none\n", Some("artifact = \"g\"\nbackup = \"none\"\n")),
    ("[[artifact.g.file]]", "version = 1.14.0\n[[artifact.g.file]]", Some("version = \"1.14.0\"\n[[artifact.g.file]]")),
    ("urls = ", "platform = \"linux/arm4\"\nurls = ", None),
    ("urls = ", "platform = \"linux/x86\"\nurls = ", None),
    ("urls = ", "platform = \"linux/x86_64\"\nurls = ", Some("platform = \"linux/amd64\"\nurls = ")),
    ("/g\"]", "/g]\"", None),
    ("[upgrade.u]", "[upgrade/u] # why: because", Some("[upgrade.u] # why: because")),
    ("[artifact.g]", "artifact.g] # note", Some("[artifact.g] # note")),
    ("[upgrade.u]", "[backup.b]\narchive = { format = \"tar.xz\" }\n[upgrade.u]\nbackup = \"b\"", None),
    ("height = 5 ", "height = 10#00 ", None),
    ("height = 5 ", "height = 1.234.5 ", None),
    ("height = 5 ", "height = 20,00 ", None),
    ("binary = \"b\"", "binary = \"b\"\nenv = { X = yes }", Some("binary = \"b\"\nenv = { X = \"yes\" }")),
    ("binary = \"b\"", "binary = \"b\"\nenv.level = 007", Some("binary = \"b\"\nenv.level = \"007\"")),
    ("binary = \"b\"", "binary = \"b\"\nenv.LIM = 1,000", None),
    ("binary = \"b\"", "binary = \"b\"\nargs = [ \"--data\", yes ]", Some("binary = \"b\"\nargs = [ \"--data\", \"yes\" ]")),
    ("binary = \"b\"", "binary = \"b\"\nargs = [\n  \"x,\"\n  \"y\"\n]", None),
    ("binary = \"b\"", "binary = \"d\u{201d}", None),
    ("binary = \"b\"", "binary = \"a\\d\"", Some("binary = 'a\\d'")),
    ("binary = \"b\"", "binary = \"v2\\\\a\\d\"", None),
    ("home = \"/h\"", "home = /n#1", None),
    ("visor = 1\n", "visor = 1.0.0\n", None),
    ("[node.n]", "[node.de\\o]", None),
    ("[upgrade.u]", "[upgrade u.trigger]", None),
    ("[[artifact.g.file]]", "[artifact.g.file]]", Some("[[artifact.g.file]]")),
    ("visor = 1\n", "", Some("visor = 1\n")),
    ("visor = 1\n", "\u{feff}# ours\n", Some("\u{feff}# ours\nvisor = 1\n")),
];

#[test]
fn an_edit_is_made_only_where_it_is_certain() {
    assert!(findings(&base()).is_empty());
    for (part, mistake, meant) in TABLE {
        assert_eq!(base().matches(part).count(), 1, "{part}");
        let broken = base().replace(part, mistake);
        assert!(!findings(&broken).is_empty(), "{mistake}");
        let wanted = meant.map_or(broken.clone(), |meant| base().replace(part, meant));
        assert_eq!(fixed(&broken), wanted, "{mistake}");
    }
}

/// A key that could not be read has no place of its own, and what stands nearest is not it.
#[test]
fn nothing_else_is_edited_for_a_key_without_a_place() {
    for mistake in [
        "nodes.a.stop]\ngrace = \"5m\"\n",
        "backups.x.keep = { last = 3\n",
        "noe.validator-1.logs]\n",
    ] {
        let broken = base().replace("visor = 1\n", &format!("visor = 1\n{mistake}"));
        let after = fixed(&broken);
        assert!(after.starts_with("visor = 1\n"), "{after}");
        assert!(after.ends_with(&base()["visor = 1\n".len()..]), "{after}");
    }
}
