//! Places at which a test can kill the program. In a build without the feature `test-programs` they are nothing.
//!
//! `VISOR_KILL_AT=<name>#<n>` kills this process with SIGKILL at the n-th time (from 1) that it comes to that place.
//! `VISOR_KILL_TRACE=<file>` appends the name of every place that is passed.

#[cfg(not(feature = "test-programs"))]
#[inline(always)]
pub fn hit(_name: &str) {}

#[cfg(feature = "test-programs")]
#[expect(
    clippy::disallowed_methods,
    reason = "test programs are steered by their environment"
)]
pub fn hit(name: &str) {
    use std::io::Write as _;
    use std::sync::{LazyLock, Mutex};
    static SEEN: LazyLock<Mutex<Vec<String>>> = LazyLock::new(Mutex::default);
    if let Ok(path) = std::env::var("VISOR_KILL_TRACE")
        && let Ok(mut file) = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
    {
        // One write: threads and the shim share the file.
        let _ = file.write_all(format!("{name}\n").as_bytes());
    }
    let Ok(wanted) = std::env::var("VISOR_KILL_AT") else {
        return;
    };
    let Some((place, nth)) = wanted.rsplit_once('#') else {
        return;
    };
    let Ok(mut seen) = SEEN.lock() else { return };
    seen.push(name.to_owned());
    if place == name && nth.parse() == Ok(seen.iter().filter(|s| *s == name).count()) {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
