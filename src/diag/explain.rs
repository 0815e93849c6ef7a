//! What each code means: one table for `visor explain`, the book and SARIF. The examples are tested.

use super::Code;

/// A rule for people.
#[derive(Debug, Clone, Copy)]
pub struct Explanation {
    /// What the rule says.
    pub what: &'static str,
    /// What would happen without it.
    pub why: &'static str,
    /// Objects that break the rule, and the same mended; they are read together with `EXAMPLE_BASE`. Empty where the mistake
    /// is not one of text.
    pub bad: &'static str,
    pub good: &'static str,
}

/// What the examples may name: they are read as a second file beside this one.
pub const EXAMPLE_BASE: &str = r#"visor = 1

[node.demo]
binary = "gethd"
home = "/var/lib/geth"
data = { path = "data" }
chain = { kind = "evm", rpc = "http://127.0.0.1:8545" }
genesis = "geth-v1"

[artifact.geth-v1]
[[artifact.geth-v1.file]]
urls = ["https://releases.example/geth-v1"]
sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"#;

macro_rules! table {
    ($($code:ident: $what:literal, $why:literal, $bad:literal, $good:literal;)*) => {
        impl Code {
            /// What the rule means, with examples.
            pub fn explanation(self) -> Explanation {
                match self {
                    $(Self::$code => Explanation { what: $what, why: $why, bad: $bad, good: $good },)*
                }
            }
        }
    };
}

table! {
    Unreadable:
        "A file of the set could not be read, or is not UTF-8.",
        "What visor cannot read it cannot check, and the file may hold the upgrade that matters.",
        "", "";
    Syntax:
        "A statement is not TOML. Everything else in the file is still checked.",
        "A statement that cannot be read may be the one that says when an upgrade happens.",
        "visor = 1\n[hook.check]\nrun = [\"/bin/true\n",
        "visor = 1\n[hook.check]\nrun = [\"/bin/true\"]\n";
    Version:
        "Each file says once which format it is written in: `visor = 1`.",
        "A later format may give a key another meaning; a file that says nothing would be guessed at.",
        "[backup.short]\nkeep = { last = 1 }\n",
        "visor = 1\n[backup.short]\nkeep = { last = 1 }\n";
    Empty:
        "The directory holds no manifest.",
        "A check of nothing would be green for ever, for example after a directory was renamed.",
        "", "";
    UnknownKey:
        "A key that the schema does not know. Keys are never ignored.",
        "A misspelt `grace` would leave the default in place, and the node with a stop that was not asked for.",
        "visor = 1\n[hook.check]\nrun = [\"/bin/true\"]\ntimeot = \"5s\"\n",
        "visor = 1\n[hook.check]\nrun = [\"/bin/true\"]\ntimeout = \"5s\"\n";
    WrongType:
        "A value of another type than its key wants.",
        "visor converts nothing silently: \"3\" and 3 are not the same wish.",
        "visor = 1\n[backup.short]\nkeep = { last = \"1\" }\n",
        "visor = 1\n[backup.short]\nkeep = { last = 1 }\n";
    MissingKey:
        "A key that has no default is not there.",
        "There is no value that would be right for everybody.",
        "visor = 1\n[hook.check]\ntimeout = \"5s\"\n",
        "visor = 1\n[hook.check]\nrun = [\"/bin/true\"]\ntimeout = \"5s\"\n";
    BadValue:
        "A value outside of what the key allows.",
        "The limits are those within which visor's promises hold.",
        "visor = 1\n[backup.short]\nkeep = { last = 0 }\n",
        "visor = 1\n[backup.short]\nkeep = { last = 1 }\n";
    UnquotedName:
        "A name with dots is written without quotes, so TOML reads several names.",
        "`[upgrade.v2.0.0]` is a table `0` in a table `0` in an upgrade `v2`, which nobody means.",
        "visor = 1\n[upgrade.v2.0.0]\ntrigger = { manual = true }\nartifact = \"geth-v1\"\n",
        "visor = 1\n[upgrade.\"v2.0.0\"]\ntrigger = { manual = true }\nartifact = \"geth-v1\"\n";
    NoName:
        "Each object has a name in its header: `[node.NAME]`.",
        "Without a name nothing can refer to it, and visor could not say which one it means.",
        "visor = 1\n[hook]\nrun = [\"/bin/true\"]\n",
        "visor = 1\n[hook.check]\nrun = [\"/bin/true\"]\n";
    BadName:
        "A name is one path segment: 1 to 128 of `A-Z a-z 0-9 . _ + -`, and does not begin with `.` or `-`.",
        "Names become directories; a slash in one would lead out of visor's root.",
        "visor = 1\n[upgrade.\"v2/0\"]\ntrigger = { manual = true }\nartifact = \"geth-v1\"\n",
        "visor = 1\n[upgrade.\"v2.0\"]\ntrigger = { manual = true }\nartifact = \"geth-v1\"\n";
    Duplicate:
        "A name, a key or a member is given twice, or two names differ only in case.",
        "Which of the two would hold depends on the order of files; on some file systems both would be one directory.",
        "visor = 1\n[artifact.geth-v1]\n[[artifact.geth-v1.file]]\nurls = [\"https://releases.example/a\"]\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n",
        "visor = 1\n[artifact.geth-v2]\n[[artifact.geth-v2.file]]\nurls = [\"https://releases.example/a\"]\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n";
    Dangling:
        "A reference to an object that the set does not define.",
        "An upgrade without its artifact would fail when it is due; that is the worst time to learn of it.",
        "visor = 1\n[upgrade.v2]\ntrigger = { manual = true }\nartifact = \"geth-v9\"\n",
        "visor = 1\n[upgrade.v2]\ntrigger = { manual = true }\nartifact = \"geth-v1\"\n";
    NoMatch:
        "A selector that fits no node of the set.",
        "An upgrade for nobody does nothing, silently, while its author believes it is scheduled.",
        "visor = 1\n[upgrade.v2]\ntrigger = { manual = true }\nartifact = \"geth-v1\"\nnodes = { labels = { network = \"test\" } }\n",
        "visor = 1\n[upgrade.v2]\ntrigger = { manual = true }\nartifact = \"geth-v1\"\nnodes = { names = [\"demo\"] }\n";
    SameHeight:
        "Two upgrades of one node wait for the same height.",
        "Which of them would run first is not said, and only one can be the release at that height.",
        "visor = 1\n[upgrade.v2]\ntrigger = { height = 100 }\nartifact = \"geth-v1\"\n[upgrade.v3]\ntrigger = { height = 100 }\nartifact = \"geth-v1\"\n",
        "visor = 1\n[upgrade.v2]\ntrigger = { height = 100 }\nartifact = \"geth-v1\"\n[upgrade.v3]\ntrigger = { height = 200 }\nartifact = \"geth-v1\"\n";
    NoDigest:
        "A file of an artifact has exactly one of `sha256` and `sha512`.",
        "Without it whoever controls the server, or the wire, decides what runs with the validator's keys.",
        "visor = 1\n[artifact.geth-v2]\n[[artifact.geth-v2.file]]\nurls = [\"http://releases.example/geth\"]\n",
        "visor = 1\n[artifact.geth-v2]\n[[artifact.geth-v2.file]]\nurls = [\"http://releases.example/geth\"]\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n";
    BadDigest:
        "A digest that is not 64 (SHA-256) or 128 (SHA-512) hex digits.",
        "No file can ever have it, so the upgrade would fail at its download.",
        "visor = 1\n[artifact.geth-v2]\n[[artifact.geth-v2.file]]\nurls = [\"https://releases.example/geth\"]\nsha256 = \"e3b0c442\"\n",
        "visor = 1\n[artifact.geth-v2]\n[[artifact.geth-v2.file]]\nurls = [\"https://releases.example/geth\"]\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n";
    BadDuration:
        "A duration is written as \"30s\" or \"1h 30m\": numbers with `ms`, `s`, `m`, `h` or `d`.",
        "A bare number would be seconds to one reader and milliseconds to another.",
        "visor = 1\n[hook.check]\nrun = [\"/bin/true\"]\ntimeout = \"60 parsecs\"\n",
        "visor = 1\n[hook.check]\nrun = [\"/bin/true\"]\ntimeout = \"60s\"\n";
    BadSize:
        "A size is written as \"200MiB\" or \"1GB\", and is more than nothing.",
        "The limit is what keeps a wrong or hostile server from filling the disk under the node.",
        "visor = 1\n[artifact.geth-v2]\n[[artifact.geth-v2.file]]\nurls = [\"https://releases.example/geth\"]\nsize-limit = \"large\"\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n",
        "visor = 1\n[artifact.geth-v2]\n[[artifact.geth-v2.file]]\nurls = [\"https://releases.example/geth\"]\nsize-limit = \"200MiB\"\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n";
    BadSource:
        "A source of an artifact that cannot be fetched: an unknown scheme, no host, a file that is not in the set.",
        "It would be found out when the download begins, which may be the night of the upgrade.",
        "visor = 1\n[artifact.geth-v2]\n[[artifact.geth-v2.file]]\nurls = [\"ftp://releases.example/geth\"]\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n",
        "visor = 1\n[artifact.geth-v2]\n[[artifact.geth-v2.file]]\nurls = [\"https://releases.example/geth\"]\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n";
    UnknownVariable:
        "A `${…}` that visor does not define here. `$${` stands for a plain `${`.",
        "It would reach the node as text, or as nothing, and a path would point elsewhere.",
        "visor = 1\n[hook.check]\nrun = [\"/bin/true\", \"${node.hom}\"]\n",
        "visor = 1\n[hook.check]\nrun = [\"/bin/true\", \"${node.home}\"]\n";
    BadTrigger:
        "A trigger is exactly one of its kinds: `height = …` or `manual = true`.",
        "With none the upgrade never begins, with two it is not said which one counts.",
        "visor = 1\n[upgrade.v2]\ntrigger = { height = 100, manual = true }\nartifact = \"geth-v1\"\n",
        "visor = 1\n[upgrade.v2]\ntrigger = { height = 100 }\nartifact = \"geth-v1\"\n";
    BadHook:
        "A hook's program is a file of the set that is executable and that not everybody can change, or an absolute path.",
        "Hooks run with visor's rights; programs are never looked up in PATH.",
        "visor = 1\n[hook.check]\nrun = [\"hooks/gone.sh\"]\n",
        "visor = 1\n[hook.check]\nrun = [\"/usr/local/bin/check\"]\n";
    BadPath:
        "A path that cannot be used where it stands: not absolute, with `..`, or shared by two nodes.",
        "Two nodes on one data directory destroy it, and a root inside of the data would be backed up into itself.",
        "visor = 1\n[node.other]\nbinary = \"gethd\"\nhome = \"geth\"\ndata = { path = \"data\" }\n",
        "visor = 1\n[node.other]\nbinary = \"gethd\"\nhome = \"/var/lib/other\"\ndata = { path = \"data\" }\n";
    BadGlob:
        "A glob is relative to the data directory and stays below it.",
        "A glob that fits nothing keeps nothing: a key that should survive a restore would be lost.",
        "visor = 1\n[node.other]\nbinary = \"gethd\"\nhome = \"/var/lib/other\"\ndata = { path = \"data\", keep = [\"../keys\"] }\n",
        "visor = 1\n[node.other]\nbinary = \"gethd\"\nhome = \"/var/lib/other\"\ndata = { path = \"data\", keep = [\"keys\"] }\n";
    BadChain:
        "The chain's kind, its RPC and what is awaited of it do not fit together.",
        "A height is awaited by asking the node; without an address it would be awaited for ever.",
        "visor = 1\n[node.other]\nbinary = \"gethd\"\nhome = \"/var/lib/other\"\ndata = { path = \"data\" }\nchain = { kind = \"evm\" }\n",
        "visor = 1\n[node.other]\nbinary = \"gethd\"\nhome = \"/var/lib/other\"\ndata = { path = \"data\" }\nchain = { kind = \"evm\", rpc = \"http://127.0.0.1:8546\" }\n";
    SamePlatform:
        "An artifact has at most one file a platform.",
        "Which of the two would run depends on their order.",
        "visor = 1\n[artifact.geth-v2]\n[[artifact.geth-v2.file]]\nurls = [\"https://releases.example/a\"]\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n[[artifact.geth-v2.file]]\nurls = [\"https://releases.example/b\"]\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n",
        "visor = 1\n[artifact.geth-v2]\n[[artifact.geth-v2.file]]\nplatform = \"linux/amd64\"\nurls = [\"https://releases.example/a\"]\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n[[artifact.geth-v2.file]]\nplatform = \"linux/arm64\"\nurls = [\"https://releases.example/b\"]\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n";
    TooClose:
        "An upgrade's height comes before the one before it can be confirmed: its `health.blocks` reach to that height or beyond.",
        "The second one would begin late, at a height that nobody planned.",
        "visor = 1\n[upgrade.v2]\ntrigger = { height = 100 }\nartifact = \"geth-v1\"\nhealth = { blocks = 50 }\n[upgrade.v3]\ntrigger = { height = 120 }\nartifact = \"geth-v1\"\n",
        "visor = 1\n[upgrade.v2]\ntrigger = { height = 100 }\nartifact = \"geth-v1\"\nhealth = { blocks = 5 }\n[upgrade.v3]\ntrigger = { height = 120 }\nartifact = \"geth-v1\"\n";
    BatchOrder:
        "The members of a batch stand in the order of their heights, and each height is higher than the one before.",
        "A batch is read as a sequence; the chain would run it in another one.",
        "visor = 1\n[upgrade.v2]\ntrigger = { height = 200 }\nartifact = \"geth-v1\"\n[upgrade.v3]\ntrigger = { height = 100 }\nartifact = \"geth-v1\"\n[batch.q4]\nupgrades = [\"v2\", \"v3\"]\n",
        "visor = 1\n[upgrade.v2]\ntrigger = { height = 100 }\nartifact = \"geth-v1\"\n[upgrade.v3]\ntrigger = { height = 200 }\nartifact = \"geth-v1\"\n[batch.q4]\nupgrades = [\"v2\", \"v3\"]\n";
    BatchTwice:
        "An upgrade is a member of one batch, once.",
        "Its failure would hold two batches, and its progress would be counted twice.",
        "visor = 1\n[upgrade.v2]\ntrigger = { height = 100 }\nartifact = \"geth-v1\"\n[batch.q4]\nupgrades = [\"v2\", \"v2\"]\n",
        "visor = 1\n[upgrade.v2]\ntrigger = { height = 100 }\nartifact = \"geth-v1\"\n[batch.q4]\nupgrades = [\"v2\"]\n";
    BadPlatform:
        "`platform` is an operating system and an architecture in the words of Go: `linux/amd64`, `linux/arm64`.",
        "A file for a platform that does not exist is never chosen, and the machine would find none.",
        "visor = 1\n[artifact.geth-v2]\n[[artifact.geth-v2.file]]\nplatform = \"linux/x86_64\"\nurls = [\"https://releases.example/geth-v2\"]\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n[upgrade.v2]\ntrigger = { height = 1000 }\nartifact = \"geth-v2\"\n",
        "visor = 1\n[artifact.geth-v2]\n[[artifact.geth-v2.file]]\nplatform = \"linux/amd64\"\nurls = [\"https://releases.example/geth-v2\"]\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n[upgrade.v2]\ntrigger = { height = 1000 }\nartifact = \"geth-v2\"\n";
    BadVariableName:
        "The name of an environment variable has letters, digits and `_`, and no digit first.",
        "A program could not read a variable of another name, and some shells drop it.",
        "visor = 1\n[hook.check]\nrun = [\"/bin/true\"]\nenv = { \"GO GC\" = \"50\" }\n",
        "visor = 1\n[hook.check]\nrun = [\"/bin/true\"]\nenv = { GOGC = \"50\" }\n";
    NoBackup:
        "An upgrade says `backup = \"none\"`.",
        "When the new release has written to the data, the old one starts on data that it may not understand.",
        "visor = 1\n[upgrade.v2]\ntrigger = { manual = true }\nartifact = \"geth-v1\"\nbackup = \"none\"\n",
        "visor = 1\n[upgrade.v2]\ntrigger = { manual = true }\nartifact = \"geth-v1\"\n";
    Unused:
        "An artifact, a hook or a backup policy that nothing names.",
        "It is left over, or the object that should name it names another.",
        "visor = 1\n[hook.check]\nrun = [\"/bin/true\"]\n",
        "visor = 1\n[hook.check]\nrun = [\"/bin/true\"]\n[upgrade.v2]\ntrigger = { manual = true }\nartifact = \"geth-v1\"\nhooks = { pre-stop = [\"check\"] }\n";
    Secret:
        "A variable or an argument whose name says that it is secret has its value in the manifest.",
        "Manifests are kept in Git and are read by many; processes show their arguments to every user of the machine.",
        "visor = 1\n[node.other]\nbinary = \"gethd\"\nhome = \"/var/lib/other\"\ndata = { path = \"data\" }\nenv = { KEYSTORE_PASSWORD = \"hunter2\" }\n",
        "visor = 1\n[node.other]\nbinary = \"gethd\"\nhome = \"/var/lib/other\"\ndata = { path = \"data\" }\nenv = { KEYSTORE_PASSWORD_FILE = \"/etc/geth/password\" }\n";
    NoWayBack:
        "An upgrade without a backup is to be rolled back, and has hooks that run while the node is down.",
        "What those hooks did to the data stays, under the old release.",
        "visor = 1\n[hook.migrate]\nrun = [\"/bin/true\"]\n[upgrade.v2]\ntrigger = { manual = true }\nartifact = \"geth-v1\"\nbackup = \"none\"\nhooks = { pre-upgrade = [\"migrate\"] }\n",
        "visor = 1\n[hook.migrate]\nrun = [\"/bin/true\"]\n[upgrade.v2]\ntrigger = { manual = true }\nartifact = \"geth-v1\"\nhooks = { pre-upgrade = [\"migrate\"] }\n";
    OneArgument:
        "An element of `args` or `run` begins with `-` and holds another flag, or is a program's name with words behind it.",
        "No shell splits it: the program gets all of it as one argument, and most refuse it or take it for something else.",
        "visor = 1\n[hook.check]\nrun = [\"/bin/true\", \"--min 10 --max 20\"]\n",
        "visor = 1\n[hook.check]\nrun = [\"/bin/true\", \"--min\", \"10\", \"--max\", \"20\"]\n";
}

/// The page of a code, as the book and `visor explain` show it.
pub fn code_page(code: Code) -> String {
    let e = code.explanation();
    let mut out = format!(
        "# {}: {}\n\n{}\n\n**Why it matters.** {}\n",
        code.as_str(),
        code.title(),
        e.what,
        e.why
    );
    if !e.bad.is_empty() {
        let bare = |text: &str| {
            text.strip_prefix("visor = 1\n")
                .unwrap_or(text)
                .trim_end()
                .to_owned()
        };
        out.push_str(&format!("\nBad:\n\n```toml\n{}\n```\n", bare(e.bad)));
        // Where the mended line is the first one itself.
        let good = if code == Code::Version {
            e.good.trim_end().to_owned()
        } else {
            bare(e.good)
        };
        out.push_str(&format!("\nGood:\n\n```toml\n{good}\n```\n"));
    }
    out
}
