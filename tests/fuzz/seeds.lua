-- tests/fuzz/seeds.lua FOLDER: writes the malformed weight files, the good ones that they were made
-- from, and more good ones of other forms, to FOLDER/TARGET for libFuzzer to begin with.

package.path = "tests/?.lua;" .. package.path
local malformed = require "malformed"
malformed.onnx = require "malformed_onnx"
for target, files in pairs(require "malformed_arrays") do malformed[target] = files end

local function write(path, bytes)
    local file = assert(io.open(path, "wb"))
    file:write(bytes)
    file:close()
end

for target, files in pairs(malformed) do
    local folder = arg[1] .. "/" .. target
    write(folder .. "/good", files.good)
    for i, case in ipairs(files) do write(("%s/malformed%02d"):format(folder, i), case[1]) end
    for i, bytes in ipairs(files.more or {}) do write(("%s/more%d"):format(folder, i), bytes) end
end
