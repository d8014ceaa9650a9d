--- Makes a set of adversarial examples: float32 shards and their index, for training detectors
-- (experiments/retraining.lua), transfer and transformations.
--
-- Each loss attacks the images that the net classifies correctly. Images that become their target
-- are stored, with the genuine images they come from. --shard I/N makes a part of a set in its own
-- folder; --resume continues a set.

local count_of = require "advrt.support.count"
local adversarial = require "advrt.paper.adversarial"
local folder = require "advrt.run.folder"
local options = require "advrt.support.options"
local progress = require "advrt.run.progress"

local takes = table.move(adversarial.options, 1, #adversarial.options, 1, {})
table.move({"out", "shard"}, 1, 2, #takes + 1, takes)
local o = options.parse(arg, {
    name = "make_adversarial.lua",
    description = "Makes a set of adversarial examples with each loss, and keeps the original images.",
    uses = {
        {"", "examples from the bundled network and images"},
        {"--net model.onnx --images photos --when first", "your own network and images, at the first flip"},
        {"--limit 1000 --dry-run", "print the expected time and disk space only"},
    },
    options = takes,
    ranks = true,
    flags = {adversarial.skip_bad, {"resume", "continue the set in --out"},
        {"dry-run", "print the expected time and disk space, and exit"}},
})
if o.dry_run then
    local e = adversarial.estimate(o)
    print(("%s, %s, %s: about %s, and %s on the disk"):format(count_of(e.images, "image"),
        count_of(#o.losses, "loss", "losses"), count_of(o.iterations, "iteration"),
        progress.duration(e.seconds), folder.size(e.bytes)))
else
    adversarial.make(o, takes)
end
