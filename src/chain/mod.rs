//! Chain adapters: what a node says of its chain, asked over its RPC.
//!
//! Never treats an unknown answer as a good one: an answer that is late, too large, of the wrong form or at odds with
//! another is *unknown*, with the reason.

mod evm;

pub use evm::EvmClient;
