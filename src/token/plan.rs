use crate::proxy::Proxy as _;
use crate::token::refresher as _;
