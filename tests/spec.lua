-- Runs busted inside advrt: `build/advrt tests/spec.lua [busted's options] SPEC`.
require "busted.runner" {standalone = false}
