//! Mistakes planted at random: each must be found, once, on its line, whatever stands beside it.

use crate::check::set;
use crate::env::is_full;
use visor::check::check;
use visor::diag::Code;

/// A mistake that can stand beside any other: the lines it adds, and where among them its one finding is.
pub(crate) struct Plant {
    code: Code,
    /// `N` is replaced by a number of its own.
    text: &'static str,
    /// From 0.
    line: usize,
}

pub(crate) const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

pub(crate) const PLANTS: &[Plant] = &[
    Plant {
        code: Code::Syntax,
        text: "[hook.hN]\nrun = [\"/bin/true\"\ntimeout = \"5s\"\n",
        line: 1,
    },
    Plant {
        code: Code::Syntax,
        text: "[hook.hN]\nrun = [\"/bin/true\"]\ntimeout \"5s\"\n",
        line: 2,
    },
    Plant {
        code: Code::Syntax,
        text: "[hook.hN]\nrun = [\"/bin/true\"]\nenv = { A = \"x }\n",
        line: 2,
    },
    Plant {
        code: Code::Syntax,
        text: "[hook.hN\nrun = [\"/bin/true\"]\n",
        line: 0,
    },
    Plant {
        code: Code::UnknownKey,
        text: "[node.nN]\nbinry = \"gethd\"\nhome = \"/var/lib/nN\"\ndata = { path = \"data\" }\n",
        line: 1,
    },
    Plant {
        code: Code::NoName,
        text: "[[hook]]\nrun = [\"/bin/true\"]\n",
        line: 0,
    },
    Plant {
        code: Code::Unused,
        text: "[hook.uN]\nrun = [\"/bin/true\"]\n",
        line: 0,
    },
    Plant {
        code: Code::NoWayBack,
        text: "[hook.wN]\nrun = [\"/bin/true\"]\n[upgrade.wN]\ntrigger = { manual = true }\nnodes = { names = [\"base\"] }\nartifact = \"base\"\nbackup = \"none\"\nhooks = { pre-upgrade = [\"wN\"] }\n",
        line: 6,
    },
    // Behind a list that is not closed, too, it is a mistake of its own.
    Plant {
        code: Code::Syntax,
        text: "hello world\n",
        line: 0,
    },
    Plant {
        code: Code::UnknownKey,
        text: "[node.nN]\nbinary = \"gethd\"\nhome = \"/var/lib/nN\"\ndata = { path = \"data\" }\nchain = { kind = \"evm\", url = \"http://127.0.0.1:1\" }\n",
        line: 4,
    },
    Plant {
        code: Code::UnknownKey,
        text: "[node.nN]\nbinary = \"gethd\"\nhome = \"/var/lib/nN\"\ndata = { path = \"data\" }\nv1.0.0 = \"x\"\n",
        line: 4,
    },
    Plant {
        code: Code::WrongType,
        text: "[artifact.zN]\n[[artifact.zN.file]]\nurls = [\"https://x.example/z\"]\nsha256 = \"HEX\"\n[upgrade.zN]\ntrigger = { manual = true }\nnodes = { names = [\"base\"] }\nartifact = 7\n",
        line: 7,
    },
    Plant {
        code: Code::Duplicate,
        text: "[hook.cN]\nrun = [\"/bin/true\"]\n[hook.CN]\nrun = [\"/bin/true\"]\n[upgrade.caseN]\ntrigger = { manual = true }\nnodes = { names = [\"base\"] }\nartifact = \"base\"\nhooks = { prepare = [\"cN\", \"CN\"] }\n",
        line: 2,
    },
    Plant {
        code: Code::UnknownKey,
        text: "[hook.hN]\nrun = [\"/bin/true\"]\ncolour = \"red\"\n",
        line: 2,
    },
    Plant {
        code: Code::WrongType,
        text: "[hook.hN]\nrun = [\"/bin/true\"]\nonce = \"yes\"\n",
        line: 2,
    },
    Plant {
        code: Code::WrongType,
        text: "[node.nN]\nbinary = 7\nhome = \"/var/lib/nN\"\ndata = { path = \"data\" }\n",
        line: 1,
    },
    Plant {
        code: Code::MissingKey,
        text: "[node.nN]\nbinary = \"gethd\"\ndata = { path = \"data\" }\n",
        line: 0,
    },
    Plant {
        code: Code::BadValue,
        text: "[backup.bN]\nkeep = { last = 0 }\n",
        line: 1,
    },
    Plant {
        code: Code::BadValue,
        text: "[node.nN]\nbinary = \"gethd\"\nhome = \"/var/lib/nN\"\ndata = { path = \"data\" }\nchain = { kind = \"evmm\", rpc = \"http://127.0.0.1:1\" }\n",
        line: 4,
    },
    Plant {
        code: Code::UnquotedName,
        text: "[upgrade.vN.0.1]\ntrigger = { manual = true }\nartifact = \"base\"\n",
        line: 0,
    },
    Plant {
        code: Code::BadName,
        text: "[upgrade.\"v/N\"]\ntrigger = { manual = true }\nartifact = \"base\"\n",
        line: 0,
    },
    Plant {
        code: Code::Duplicate,
        text: "[hook.hN]\nrun = [\"/bin/true\"]\nonce = true\nonce = false\n",
        line: 3,
    },
    Plant {
        code: Code::Dangling,
        text: "[upgrade.uN]\ntrigger = { manual = true }\nartifact = \"no-such-artifact-N\"\n",
        line: 2,
    },
    Plant {
        code: Code::NoMatch,
        text: "[upgrade.uN]\ntrigger = { manual = true }\nartifact = \"base\"\nnodes = { labels = { nobody = \"N\" } }\n",
        line: 3,
    },
    Plant {
        code: Code::NoDigest,
        text: "[artifact.aN]\n[[artifact.aN.file]]\nurls = [\"https://releases.example/a\"]\n",
        line: 1,
    },
    Plant {
        code: Code::BadDigest,
        text: "[artifact.aN]\n[[artifact.aN.file]]\nurls = [\"https://releases.example/a\"]\nsha256 = \"e3b0\"\n",
        line: 3,
    },
    Plant {
        code: Code::BadDuration,
        text: "[hook.hN]\nrun = [\"/bin/true\"]\ntimeout = \"60 parsecs\"\n",
        line: 2,
    },
    Plant {
        code: Code::BadSize,
        text: "[artifact.aN]\n[[artifact.aN.file]]\nurls = [\"https://releases.example/a\"]\nsha256 = \"HEX\"\nsize-limit = \"big\"\n",
        line: 4,
    },
    Plant {
        code: Code::BadSource,
        text: "[artifact.aN]\n[[artifact.aN.file]]\nurls = [\"ftp://releases.example/a\"]\nsha256 = \"HEX\"\n",
        line: 2,
    },
    Plant {
        code: Code::UnknownVariable,
        text: "[hook.hN]\nrun = [\"/bin/true\", \"${node.nam}\"]\n",
        line: 1,
    },
    Plant {
        code: Code::BadTrigger,
        text: "[upgrade.uN]\ntrigger = { height = N, manual = true }\nartifact = \"base\"\n",
        line: 1,
    },
    Plant {
        code: Code::BadHook,
        text: "[hook.hN]\nrun = [\"gone.sh\"]\n",
        line: 1,
    },
    Plant {
        code: Code::BadPath,
        text: "[node.nN]\nbinary = \"gethd\"\nhome = \"var/lib/nN\"\ndata = { path = \"data\" }\n",
        line: 2,
    },
    Plant {
        code: Code::BadGlob,
        text: "[node.nN]\nbinary = \"gethd\"\nhome = \"/var/lib/nN\"\ndata = { path = \"data\", exclude = [\"/x\"] }\n",
        line: 3,
    },
    Plant {
        code: Code::BadChain,
        text: "[node.nN]\nbinary = \"gethd\"\nhome = \"/var/lib/nN\"\ndata = { path = \"data\" }\nchain = { kind = \"evm\" }\n",
        line: 4,
    },
    Plant {
        code: Code::SamePlatform,
        text: "[artifact.aN]\n[[artifact.aN.file]]\nurls = [\"https://releases.example/a\"]\nsha256 = \"HEX\"\n[[artifact.aN.file]]\nurls = [\"https://releases.example/b\"]\nsha256 = \"HEX\"\n",
        line: 4,
    },
    Plant {
        code: Code::SameHeight,
        text: "[upgrade.uN]\ntrigger = { height = N00000 }\nartifact = \"base\"\nnodes = { names = [\"base\"] }\n[upgrade.wN]\ntrigger = { height = N00000 }\nartifact = \"base\"\nnodes = { names = [\"base\"] }\n",
        line: 5,
    },
    Plant {
        code: Code::TooClose,
        text: "[upgrade.uN]\ntrigger = { height = N00000 }\nartifact = \"base\"\nnodes = { names = [\"base\"] }\n[upgrade.wN]\ntrigger = { height = N00001 }\nartifact = \"base\"\nnodes = { names = [\"base\"] }\n",
        line: 5,
    },
    Plant {
        code: Code::BatchTwice,
        text: "[upgrade.uN]\ntrigger = { manual = true }\nartifact = \"base\"\n[batch.bN]\nupgrades = [\n  \"uN\",\n  \"uN\",\n]\n",
        line: 6,
    },
    Plant {
        code: Code::BatchOrder,
        text: "[upgrade.uN]\ntrigger = { height = N00500 }\nartifact = \"base\"\nnodes = { names = [\"base\"] }\n[upgrade.wN]\ntrigger = { height = N00100 }\nartifact = \"base\"\nnodes = { names = [\"base\"] }\n[batch.bN]\nupgrades = [\n  \"uN\",\n  \"wN\",\n]\n",
        line: 11,
    },
    Plant {
        code: Code::BadPlatform,
        text: "[artifact.aN]\n[[artifact.aN.file]]\nplatform = \"linux/x86_64\"\nurls = [\"https://releases.example/a\"]\nsha256 = \"HEX\"\n",
        line: 2,
    },
    Plant {
        code: Code::BadVariableName,
        text: "[hook.hN]\nrun = [\"/bin/true\"]\nenv = { \"GO GC\" = \"50\" }\n",
        line: 2,
    },
    Plant {
        code: Code::OneArgument,
        text: "[hook.hN]\nrun = [\"/bin/true\", \"--min 10\"]\n",
        line: 1,
    },
    Plant {
        code: Code::WrongType,
        text: "[[backup.bN]]\nkeep = { last = 1 }\n",
        line: 0,
    },
    Plant {
        code: Code::WrongType,
        text: "[backup.bN]\nkeep = { last = 1.0 }\n",
        line: 1,
    },
    Plant {
        code: Code::WrongType,
        text: "[artifact.aN]\n[artifact.aN.file]\nurls = [\"https://releases.example/a\"]\nsha256 = \"HEX\"\n",
        line: 1,
    },
    Plant {
        code: Code::UnknownKey,
        text: "[upgrades.uN]\ntrigger = { manual = true }\nartifact = \"base\"\n",
        line: 0,
    },
    Plant {
        code: Code::UnquotedName,
        text: "[node.nN.example.com]\nbinary = \"gethd\"\nhome = \"/var/lib/nN\"\ndata = { path = \"data\" }\n",
        line: 0,
    },
    Plant {
        code: Code::Duplicate,
        text: "[hook.hN]\nrun = [\"/bin/true\"]\n[hook.hN]\nrun = [\"/bin/true\"]\n",
        line: 2,
    },
    Plant {
        code: Code::Syntax,
        text: "[hook.hN]\nrun = [\n  \"/bin/true\"\n  \"b\",\n]\n",
        line: 2,
    },
    Plant {
        code: Code::Syntax,
        text: "[hook.hN]\nrun = [\"/bin/true\"]\nonce = True\n",
        line: 2,
    },
    Plant {
        code: Code::NoBackup,
        text: "[upgrade.uN]\ntrigger = { manual = true }\nartifact = \"base\"\nbackup = \"none\"\n",
        line: 3,
    },
    Plant {
        code: Code::Secret,
        text: "[node.nN]\nbinary = \"gethd\"\nhome = \"/var/lib/nN\"\ndata = { path = \"data\" }\nenv = { DB_PASSWORD = \"hunter2\" }\n",
        line: 4,
    },
];

/// A small generator: the same numbers from the same seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below
    }
}

/// A file with these mistakes, and what must be found: code and line.
pub(crate) fn planted(which: &[usize]) -> (String, Vec<(usize, Code)>) {
    let mut text = format!(
        "visor = 1\n[node.base]\nbinary = \"gethd\"\nhome = \"/var/lib/base\"\ndata = {{ path = \"data\" }}\nchain = {{ kind = \"evm\", rpc = \"http://127.0.0.1:8545\" }}\ngenesis = \"base\"\n[artifact.base]\n[[artifact.base.file]]\nurls = [\"https://releases.example/base\"]\nsha256 = \"{HEX}\"\n"
    );
    let mut want = Vec::new();
    for (n, plant) in which.iter().map(|i| &PLANTS[*i]).enumerate() {
        let n = n + 1;
        let at = text.lines().count() + 1;
        let body = plant
            .text
            .replace("HEX", HEX)
            .replace("${node.nam}", "${node.nam\u{1}")
            .replace('N', &n.to_string())
            .replace('\u{1}', "}");
        let mut names = String::new();
        for (head, key, list) in [
            ("[artifact.a", "artifact", false),
            ("[hook.h", "hooks", true),
            ("[backup.b", "backup", false),
        ] {
            let name = format!("{}{n}", &head[head.find('.').unwrap() + 1..]);
            if body.contains(&format!("{head}{n}")) {
                names = if list {
                    format!("artifact = \"base\"\nhooks = {{ prepare = [\"{name}\"] }}\n")
                } else if key == "artifact" {
                    format!("artifact = \"{name}\"\n")
                } else {
                    format!("artifact = \"base\"\n{key} = \"{name}\"\n")
                };
            }
        }
        want.push((at + plant.line, plant.code));
        text.push_str(&body);
        if !names.is_empty() {
            text.push_str(&format!("[upgrade.user{n}]\ntrigger = {{ manual = true }}\nnodes = {{ names = [\"base\"] }}\n{names}"));
        }
    }
    want.sort();
    (text, want)
}

fn found(text: &str) -> Vec<(usize, Code)> {
    let set = set(&[("m.toml", text)]);
    let findings = check(&set).findings;
    let mut out: Vec<_> = findings
        .iter()
        .map(|f| (set.files[0].position(f.place.start).0, f.code))
        .collect();
    out.sort();
    out
}

#[test]
fn every_rule_of_a_file_is_planted() {
    // Of the file as a whole, and of the set: once each, in the corpus.
    let whole = ["V0001", "V0003", "V0004"];
    for code in Code::ALL.iter().filter(|c| !whole.contains(&c.as_str())) {
        let is_planted = PLANTS.iter().any(|p| p.code == *code);
        assert!(is_planted, "{} is not planted", code.as_str());
    }
}

#[test]
fn each_mistake_alone_is_one_finding_on_its_line() {
    for i in 0..PLANTS.len() {
        let (text, want) = planted(&[i]);
        assert_eq!(found(&text), want, "plant {i}:\n{text}");
    }
}

#[test]
fn mistakes_in_any_combination_are_found_each_once() {
    let full = is_full();
    let rounds = if full { 20_000 } else { 1_000 };
    let mut dice = Dice(7);
    for round in 0..rounds {
        let which: Vec<usize> = (0..7).map(|_| dice.roll(PLANTS.len())).collect();
        let (text, want) = planted(&which);
        assert_eq!(
            found(&text),
            want,
            "round {round}, plants {which:?}:\n{text}"
        );
    }
    println!("{rounds} files of 7 mistakes each; VISOR_IT_FULL=1 tries 20,000");
}
