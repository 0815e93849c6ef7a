//! The sets that the benches check.

pub(crate) const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// One file of 1 KB, linked to the next; with seven mistakes, or none.
pub(crate) fn file(i: usize, n: usize, bad: bool) -> String {
    let next = (i + 1) % n;
    let text = format!(
        r#"visor = 1

# Node {i} of the fleet, with its release, its upgrade, its hook and its policy.
[node.node-{i}]
binary = "gethd"
home = "/var/lib/geth-{i}"
args = ["--datadir", "${{node.data}}", "--http", "--http.port", "${{chain.port}}"]
data = {{ path = "data", exclude = ["*.ipc"], keep = ["geth/nodekey"] }}
chain = {{ kind = "evm", rpc = "http://127.0.0.1:8545", max-head-age = "2m" }}
stop = {{ grace = "5m", dump = "5s" }}
labels = {{ network = "net-{i}" }}
genesis = "geth-{next}"

[artifact.geth-{i}]
version = "v1.{i}.0"
[[artifact.geth-{i}.file]]
platform = "linux/amd64"
urls = ["https://releases.example/geth-{i}"]
sha256 = "{HEX}"

[upgrade."v2.{i}"]
trigger = {{ height = {height} }}
artifact = "geth-{next}"
nodes = {{ labels = {{ network = "net-{i}" }} }}
backup = "policy-{next}"
hooks = {{ pre-stop = ["check-{next}"] }}
health = {{ within = "3m", blocks = 5 }}

[hook.check-{i}]
run = ["/usr/local/bin/check-disk", "--min", "10GiB"]
timeout = "60s"
retry = {{ times = 3, delay = "1s" }}

[backup.policy-{i}]
keep = {{ last = 5 }}
"#,
        height = 1_000 + i
    );
    if !bad {
        return text;
    }
    text.replace("binary =", "binry =")
        .replace("\"5m\"", "\"5 parsecs\"")
        .replace("\"evm\"", "\"evmm\"")
        .replace(HEX, &HEX[2..])
        .replace("= \"policy-", "= \"polisy-")
        .replace("times = 3", "times = \"3\"")
        .replace("last = 5", "last = 0")
}
