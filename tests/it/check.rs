//! The checker: examples that hold, mistakes in any combination, edits that mend, forms for programs.

use std::collections::BTreeMap;
use visor::check::check;
use visor::diag::{
    Code, EXAMPLE_BASE, Finding, Severity, SourceText, Style, github, human, json, mask, sarif,
};
use visor::manifest::ManifestSet;

pub(crate) fn set(files: &[(&str, &str)]) -> ManifestSet {
    let mut files: Vec<SourceText> = files
        .iter()
        .map(|(path, text)| SourceText {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    ManifestSet {
        dir: "/set".into(),
        files,
        unreadable: vec![],
        beside: BTreeMap::new(),
    }
}

fn errors_and_own(findings: &[Finding], code: Code) -> Vec<Code> {
    let counts =
        |f: &&Finding| f.severity == Severity::Error || f.code == code || f.code != Code::Unused;
    findings.iter().filter(counts).map(|f| f.code).collect()
}

#[test]
fn the_examples_of_every_code_hold() {
    for code in Code::ALL {
        let e = code.explanation();
        if e.bad.is_empty() {
            assert!(
                matches!(code, Code::Unreadable | Code::Empty),
                "{code:?} has no example"
            );
            continue;
        }
        let findings =
            |text| check(&set(&[("base.toml", EXAMPLE_BASE), ("example.toml", text)])).findings;
        let bad = findings(e.bad);
        assert_eq!(errors_and_own(&bad, *code), [*code], "{code:?}: {bad:#?}");
        let good = findings(e.good);
        assert_eq!(errors_and_own(&good, *code), [], "{code:?}: {good:#?}");
    }
}

/// A mistake that can stand beside any other: the lines it adds, and where among them its one finding is.
struct Plant {
    code: Code,
    /// `N` is replaced by a number of its own.
    text: &'static str,
    /// From 0.
    line: usize,
}

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const PLANTS: &[Plant] = &[
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
        line: 3,
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
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below
    }
}

/// A file with these mistakes, and what must be found: code and line.
fn planted(which: &[usize]) -> (String, Vec<(usize, Code)>) {
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
fn each_mistake_alone_is_one_finding_on_its_line() {
    for i in 0..PLANTS.len() {
        let (text, want) = planted(&[i]);
        assert_eq!(found(&text), want, "plant {i}:\n{text}");
    }
}

#[test]
fn mistakes_in_any_combination_are_found_each_once() {
    let full = std::env::var_os("VISOR_IT_FULL").is_some();
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

#[test]
fn the_order_of_files_and_the_number_of_threads_change_nothing() {
    let texts: Vec<(String, String)> = (0..40)
        .map(|i| {
            (
                format!("f{i:02}.toml"),
                planted(&[i % PLANTS.len(), (i * 7) % PLANTS.len()]).0,
            )
        })
        .collect();
    let files: Vec<(&str, &str)> = texts
        .iter()
        .map(|(p, t)| (p.as_str(), t.as_str()))
        .collect();
    let mut turned = files.clone();
    turned.reverse();
    let form = |files: &[(&str, &str)], threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let set = set(files);
            let findings = check(&set).findings;
            human(&findings, &set.files, Style::plain(80))
                + &json(&findings, &set.files)
                + &sarif(&findings, &set.files)
        })
    };
    let first = form(&files, 1);
    assert!(first == form(&turned, 1) && first == form(&files, 4) && first == form(&turned, 3));
}

#[test]
fn a_secret_is_shown_in_no_form() {
    let text = "visor = 1\n[node.a]\nbinary = \"b\"\nhome = \"/a\"\ndata = { path = \"d\" }\nargs = [\"--password=hunter2\", \"--api-token\", \"hunter2\"]\nchain = { kind = \"evm\", rpc = \"http://me:hunter2@127.0.0.1:1\" }\n[artifact.g]\n[[artifact.g.file]]\nurls = [\"https://me:hunter2@x.example/g\"]\nsha256 = \"e3b0\"\n[node.b]\nbinary = \"b\"\nhome = \"/b\"\ndata = { path = \"d\" }\nenv = { MY_TOKEN = \"hunter2\", X = \"${nothing}\" }\n";
    let mut set = set(&[("a.toml", text)]);
    let findings = check(&set).findings;
    mask(&findings, &mut set.files);
    assert_eq!(
        findings.iter().filter(|f| f.code == Code::Secret).count(),
        4
    );
    for form in [
        human(&findings, &set.files, Style::plain(80)),
        json(&findings, &set.files),
        sarif(&findings, &set.files),
        github(&findings, &set.files),
    ] {
        assert!(!form.contains("hunter2"), "{form}");
    }
}

#[test]
fn a_secret_stays_masked_when_its_warning_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let text = "visor = 1\n[node.a]\nbinary = \"b\"\nhome = \"/a\"\ndata = { path = \"d\" }\nenv = { MY_TOKEN = \"hunter2\", X = \"${nothing}\" }\n";
    std::fs::write(dir.path().join("a.toml"), text).unwrap();
    for args in [
        &["plan", "check", "--allow", "V0303", "--manifests"][..],
        &["plan", "diff", "--manifests"],
        &["batch", "validate", "--manifests"],
    ] {
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_visor"))
            .args(args)
            .arg(dir.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned()
            + &String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{text}");
        assert!(
            text.contains("V0211") && !text.contains("hunter2"),
            "{args:?}: {text}"
        );
    }
}

#[test]
fn forms_for_programs() {
    let text = "visor = 1\n[hook.a]\nrn = [\"/bin/true\"]\n[upgrade.u]\ntrigger = { manual = true }\nartifact = \"x%\"\nhooks = { prepare = [\"a\"] }\n";
    let set = set(&[("a,b.toml", text)]);
    let findings = check(&set).findings;
    insta::assert_snapshot!(github(&findings, &set.files), @r#"
    ::error file=a%2Cb.toml,line=3,endLine=3,col=1,endColumn=3,title=V0101::there is no key `rn` here%0ADid you mean `run`?
    ::error file=a%2Cb.toml,line=6,endLine=6,col=12,endColumn=16,title=V0203::there is no artifact "x%25" in the set%0ADefine [artifact."x%25"] in a file of the set, or name one that is there.
    2 errors, 0 warnings in 1 file
    "#);
    let value: serde_json::Value = serde_json::from_str(&json(&findings, &set.files)).unwrap();
    assert_eq!(value["version"], 1);
    assert_eq!(
        value["findings"][0]["fixes"],
        serde_json::json!([{ "file": "a,b.toml", "start": { "line": 3, "column": 1 }, "end": { "line": 3, "column": 3 }, "text": "run" }])
    );
    assert_eq!(
        value["summary"],
        serde_json::json!({ "files": 1, "errors": 2, "warnings": 0 })
    );
    let log: serde_json::Value = serde_json::from_str(&sarif(&findings, &set.files)).unwrap();
    let run = &log["runs"][0];
    for result in run["results"].as_array().unwrap() {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(
            run["tool"]["driver"]["rules"][index]["id"],
            result["ruleId"]
        );
        assert!(result["partialFingerprints"]["visor/v1"].is_string());
    }
    assert_eq!(
        run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
        "a%2Cb.toml"
    );
}

#[test]
fn a_set_that_init_writes_passes_as_it_is_and_with_its_comments_taken_off() {
    use std::os::unix::fs::PermissionsExt as _;
    for kind in ["evm", "generic"] {
        let dir = tempfile::tempdir().unwrap();
        let visor = |args: &[&str]| {
            let out = std::process::Command::new(env!("CARGO_BIN_EXE_visor"))
                .current_dir(dir.path())
                .args(args)
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&out.stdout).into_owned()
                + &String::from_utf8_lossy(&out.stderr);
            (out.status.code(), text)
        };
        assert_eq!(visor(&["init", kind]).0, Some(0));
        assert_eq!(
            visor(&["plan", "check"]),
            (Some(0), "1 file checked, nothing found\n".into())
        );
        // Nothing is replaced.
        assert_eq!(visor(&["init", kind]).0, Some(64));
        let path = dir.path().join("manifests/visor.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let bare = text.lines().map(|line| {
            let inner = line.strip_prefix("# ").unwrap_or(line);
            let is_toml = inner.starts_with('[')
                || inner
                    .split_once(" = ")
                    .is_some_and(|(k, _)| !k.contains(' '));
            if is_toml && !inner.starts_with("genesis") {
                inner
            } else {
                line
            }
        });
        let bare: Vec<&str> = bare.collect();
        std::fs::write(&path, bare.join("\n").replace("64 hex digits", HEX)).unwrap();
        let hook = dir.path().join("manifests/hooks/check-disk.sh");
        std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
        std::fs::write(&hook, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(
            visor(&["plan", "check", "--deny", "warnings"]),
            (Some(0), "1 file checked, nothing found\n".into())
        );
        assert!(bare.join("\n").contains("\n[upgrade."));
    }
}

#[test]
fn edits_mend_what_has_one_cure_and_keep_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.toml");
    let bad = format!(
        "# kept\n[node.a]\nbinry   = \"geth\" # kept too\nhome = \"/a\"\ndata = {{ path = \"data\" }}\nchain = {{ kind = \"evmm\", rpc = \"http://127.0.0.1:1\" }}\n[artifact.g]\n[[artifact.g.file]]\nurls = [\"https://x.example/g\"]\nsha256 = \"{HEX}\"\n[upgrade.v2.0.1]\ntrigger = {{ height = \"500\" }}\nartifact = \"g\"\n"
    );
    std::fs::write(&path, &bad).unwrap();
    let visor = |args: &[&str]| {
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_visor"))
            .args(args)
            .arg(dir.path())
            .output()
            .unwrap();
        out.status.code()
    };
    assert_eq!(visor(&["plan", "check"]), Some(1));
    assert_eq!(visor(&["plan", "check", "--fix"]), Some(0));
    let want = bad
        .replacen("# kept\n", "# kept\nvisor = 1\n", 1)
        .replace("binry", "binary")
        .replace("evmm", "evm")
        .replace("[upgrade.v2.0.1]", "[upgrade.\"v2.0.1\"]")
        .replace("\"500\"", "500");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), want);
    assert_eq!(visor(&["plan", "check", "--deny", "V9999"]), Some(64));
}
