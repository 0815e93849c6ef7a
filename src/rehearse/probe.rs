//! The outage as a client sees it: a prober that asks for the height all the time.

use crate::chain::EvmClient;
use crate::host::wall_clock;
use crate::model::{ChainSpec, UnixMs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A time without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Silence {
    pub last_answer: UnixMs,
    pub next_answer: UnixMs,
    pub ms: u64,
}

/// Asks every few milliseconds until it is told to end.
#[derive(Debug)]
pub struct Probe {
    end: Arc<AtomicBool>,
    thread: JoinHandle<Vec<UnixMs>>,
}

const EVERY: Duration = Duration::from_millis(2);

impl Probe {
    /// `None` for a chain that cannot be asked.
    pub fn start(chain: &ChainSpec) -> Option<Self> {
        let ChainSpec::Evm { rpc, .. } = chain.clone() else {
            return None;
        };
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = std::thread::spawn(move || {
            let client = EvmClient::default();
            let mut answers = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                if client.height(&rpc).is_ok() {
                    answers.push(wall_clock());
                }
                std::thread::sleep(EVERY);
            }
            answers
        });
        Some(Self { end, thread })
    }

    /// Silences longer than `least`, in order.
    pub fn end(self, least: Duration) -> Vec<Silence> {
        self.end.store(true, Ordering::Relaxed);
        let answers = self.thread.join().unwrap_or_default();
        let gap = |pair: &[UnixMs]| Silence {
            last_answer: pair[0],
            next_answer: pair[1],
            ms: pair[1] - pair[0],
        };
        answers
            .windows(2)
            .map(gap)
            .filter(|s| u128::from(s.ms) >= least.as_millis())
            .collect()
    }
}
