--- `build/advrt packaging/layers.lua > docs/layers.md`: the page of the builder's layers and of ONNX's
-- operators, from the source.

local docs = require "advrt.session.docs"
local fold = require "advrt.nets.onnx.fold"
local lfs = require "lfs"
local operators = require "advrt.nets.onnx.operators"
local system = require "advrt.core.system"

local LAYERS = system.options.root .. "/lua/advrt/nets/layers/"
local READER = "/lua/advrt/nets/onnx/"
local OF_EVERY = {["of a constant"] = true} -- which has the operator computed while the net is drawn

local function sorted(names)
    table.sort(names)
    return names
end

-- Layers --------------------------------------------------------------------

local function cell(text) return (text:gsub("|", "\\|")) end

local function sentence(lines)
    return cell((table.concat(lines, " "):gsub("^%s+", ""):gsub("%s+$", "")))
end

local function print_layers()
    local files = {}
    for file in lfs.dir(LAYERS) do
        if file:find "%.lua$" then files[#files + 1] = file end
    end
    for _, file in ipairs(sorted(files)) do
        local read = docs.read(LAYERS .. file, file)
        print(("\n%s\n\n| layer | what it makes |\n|---|---|"):format(table.concat(read.about, " ")))
        for _, entry in ipairs(read.entries) do
            local call = entry.signature:match "^Builder:(.*)$"
            if call and call:match "^%w+" ~= "normalize" then
                print(("| `b:%s` | %s |"):format(call, sentence(entry.text)))
            end
        end
    end
end

-- Operators -----------------------------------------------------------------

local lines_of = {}

local function lines_in(path)
    if not lines_of[path] then
        local lines = {}
        for line in io.lines(path) do lines[#lines + 1] = line end
        lines_of[path] = lines
    end
    return lines_of[path]
end

--- Adds what a function refuses by name, and what functions that it uses do.
local function refusals(f, found, seen)
    local where = debug.getinfo(f, "S")
    if seen[f] or not where.source:find(READER, 1, true) then return end
    seen[f] = true
    local lines = lines_in(where.source:sub(2))
    for i = where.linedefined, where.lastlinedefined do
        local text = lines[i]:match 'n:unsupported%("([^"%%]+)"%)'
        if text and not OF_EVERY[text] then found[text] = true end
    end
    local i = 1
    while true do
        local name, value = debug.getupvalue(f, i)
        if not name then break end
        if type(value) == "function" then refusals(value, found, seen) end
        i = i + 1
    end
end

local function print_operators()
    local names, constants = {}, {}
    for op in pairs(operators) do names[#names + 1] = op end
    for op in pairs(fold.operators) do
        if not operators[op] then constants[#constants + 1] = op end
    end
    print "| operator | what is not supported |\n|---|---|"
    local plain = {}
    for _, op in ipairs(sorted(names)) do
        local found, texts = {}, {}
        refusals(operators[op], found, {})
        for text in pairs(found) do texts[#texts + 1] = text end
        if #texts == 0 then
            plain[#plain + 1] = op
        else
            print(("| %s | %s |"):format(op, table.concat(sorted(texts), "; ")))
        end
    end
    print("\nWithout such a limit: " .. table.concat(plain, ", ") .. ".")
    print("\nOf constants and shapes alone, which are computed while a net is drawn: "
        .. table.concat(sorted(constants), ", ") .. ".")
end

print [[
# Layers and operators

```console needs=pip
$ advrt show --net mynet.onnx
```

lists what a net is made of. This page lists what a net can be made of. It is written from the source by
`build/advrt packaging/layers.lua > docs/layers.md`.

## Layers of a definition

A definition's `build(b, x)` calls these methods ([own-network.md](own-network.md#from-a-checkpoint)). Shapes
leave the batch out. `name` is what the parameters' names begin with. `o` is a table of attributes, with their
defaults.]]
print_layers()
print [[

## Operators of ONNX

A model with other operators is an error that names all of them and their nodes.
]]
print_operators()
