-- Runs busted inside advrt: `build/advrt tests/busted.lua [busted's options] SPEC`.
require "busted.runner" {standalone = false}
