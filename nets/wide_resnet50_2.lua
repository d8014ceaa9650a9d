local resnet = require "advrt.nets.resnet"

return resnet.definition("wide_resnet50_2", resnet.bottleneck, {3, 4, 6, 3}, {group_width = 128})
