--- Follows the commands of a page of README or docs/ in a folder that is like the source tree, with an
-- installed advrt. ADVRT_DOCS=slow (make test-docs) runs those that take longer, too.

local lfs = require "lfs"
local net = require "advrt.net"
local pages = require "tests.pages"
local support = require "tests.support"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local root, build = system.options.root, system.options.executable:match("^(.*)/")
local slow = os.getenv "ADVRT_DOCS" == "slow"
local quote, sure = support.quote, support.sure

local follow = {}

function follow.text_of(page) return support.read(root .. "/" .. page) end

--- An executable file of these lines of bash.
function follow.program(path, text)
    support.write(path, "#!/bin/bash\n" .. text .. "\n")
    sure("chmod +x " .. quote(path))
end

--- A folder in which a page's commands find what they find in the source tree, and an installed advrt.
function follow.workplace()
    local folder = support.folder()
    for _, name in ipairs {"bin", "build"} do assert(lfs.mkdir(folder .. "/" .. name)) end
    for _, name in ipairs {"experiments", "nets", "lua", "tests", "runtime"} do
        assert(lfs.link(root .. "/" .. name, folder .. "/" .. name, true))
    end
    return folder
end

-- The files of a training in PyTorch, which docs/own-network.md takes over: the same names and shapes.
local function pytorch_files(folder, text)
    support.write(folder .. "/lenet.lua", text:match("```lua\n(%-%- lenet.lua\n.-)\n```"))
    local g = assert(net.load(folder .. "/lenet.lua", {init = "he"}))
    assert(tensor.save(folder .. "/lenet.safetensors", g:state()))
    assert(os.rename(folder .. "/lenet.safetensors", folder .. "/lenet.pth"))
    local x = tensor.uniform("lenet", {4, 1, 28, 28})
    assert(tensor.save(folder .. "/expect.safetensors", {x = x, logits = g:forward(x)}))
end

--- Runs commands in the folder; fails unless they end as they should. Returns all output.
local function execute(folder, commands, fails, where)
    local status, out, err = support.shell(("cd %s\nexport PATH=%s:$PATH\nset -e\n%s"):format(quote(folder),
        quote(folder .. "/bin"), commands))
    local said = out .. err
    assert(fails and (status == 1 or status == 2) or not fails and status == 0,
        ("%s ends with status %d: %s\n%s"):format(where, status, commands, said))
    assert(not said:find("traceback", 1, true), said)
    return said
end

local function as_in_the_tree(said, folder)
    for _, place in ipairs {root, folder} do
        said = said:gsub(place:gsub("%p", "%%%0") .. "/", "")
    end
    return said
end

--- Runs a page's blocks in order, and holds the output of consoles to what the page says.
function follow.page(page)
    local folder, ran, wanted = follow.workplace(), 0, false
    local text = follow.text_of(page)
    for _, block in ipairs(pages.blocks(text)) do
        wanted = wanted or block.commands and not block.tags.needs and (slow or not block.tags.slow)
    end
    if not wanted then return support.remove(folder) end
    assert(lfs.link(system.options.executable, folder .. "/bin/advrt", true))
    assert(lfs.link(system.options.executable, folder .. "/build/advrt", true))
    assert(lfs.link(build .. "/tests", folder .. "/build/tests", true))
    follow.program(folder .. "/bin/pkg-config", "echo " .. quote(root .. "/nets"))
    follow.program(folder .. "/bin/make", ("cd %s && exec %s BUILD=%s \"$@\""):format(quote(root),
        "/usr/bin/make --no-print-directory", quote(build)))
    if page == "docs/own-network.md" then pytorch_files(folder, text) end
    for _, block in ipairs(pages.blocks(text)) do
        local tags = block.tags or {}
        local where = page .. ":" .. block.line
        if block.name then support.write(folder .. "/" .. block.name, block.body .. "\n") end
        if tags.run or tags.slow and slow then
            ran = ran + 1
            if block.language == "console" then
                local session = pages.session(block.body)
                for i, part in ipairs(session) do
                    local said = as_in_the_tree(execute(folder, part.command, tags.fails and i == #session,
                        where), folder)
                    local line = pages.missing(part.expected, said)
                    assert(not line, ("%s: the output has no line\n%s\nat its place:\n%s"):format(where,
                        line or "", said))
                end
            else
                execute(folder, block.body, tags.fails, where)
            end
        end
    end
    support.remove(folder)
    return ran
end

return follow
