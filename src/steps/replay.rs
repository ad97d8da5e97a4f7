//! Applies the changes captured on the target to the source, through the mapping.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::Result;
use crate::flow::{self, Applied, Flow, FlowName, Until, lag, marker};
use crate::phase::Side;
use crate::steps::{Needs, Run, capture, preconditions};
