//! Applies the changes captured on the target to the source, through the mapping.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::flow::mapping::Mapping;
use crate::flow::{Applied, Flow, FlowName, Until, apply_until, lag, marker};
use crate::pg::record;
use crate::phase::Side;
use crate::steps::{Needs, Run, capture, preconditions};
