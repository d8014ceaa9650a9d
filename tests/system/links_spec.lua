-- The pages of README and docs/: their links and the files they name are there, the commands that are not
-- run have options that there are, and the reader of pages does its work. CONTRIBUTING.md explains tags.

local follow = require "tests.follow"
local lfs = require "lfs"
local pages = require "tests.pages"
local support = require "tests.support"
local system = require "advrt.core.system"

local root = system.options.root
local program, quote, text_of = follow.program, support.quote, follow.text_of

describe("a page", function()
    it("has commands that are run in most cases", function()
        local count = {run = 0, slow = 0, needs = 0}
        for _, page in ipairs(pages.list(root)) do
            for _, block in ipairs(pages.blocks(text_of(page))) do
                for kind in pairs(count) do
                    if block.tags and block.tags[kind] then count[kind] = count[kind] + 1 end
                end
            end
        end
        assert.is_true(count.run > count.needs and count.slow > 5, ("%d run, %d slow, %d need something")
            :format(count.run, count.slow, count.needs))
    end)

    it("of docs/ begins with commands or code", function()
        for _, page in ipairs(pages.list(root)) do
            local first = pages.blocks(text_of(page))[1]
            assert(not page:find "^docs/" or first and first.line <= 30, page)
        end
    end)

    it("has links that lead somewhere", function()
        local count = 0
        for _, page in ipairs(pages.list(root)) do
            assert.same({}, pages.dead(root, page))
            count = count + #pages.links(text_of(page))
        end
        assert.is_true(count > 100, count .. " links")
    end)

    it("names files that are there", function()
        local count, tree = 0, {}
        for _, name in ipairs {"docs", "experiments", "lua", "nets", "packaging", "runtime", "tests",
            "third_party"} do
            tree[name] = true -- and no other folder, such as runs/, which a command has made
        end
        for _, page in ipairs(pages.list(root)) do
            for path in text_of(page):gmatch("[`( ]([%w_]+/[%w_/.-]+%.%l+)[`)]") do
                if tree[path:match("^[^/]+")] then
                    assert(support.exists(root .. "/" .. path), page .. " names " .. path)
                    count = count + 1
                end
            end
        end
        assert.is_true(count > 20, count .. " paths")
    end)

    it("names targets of make that there are", function()
        local makefiles, count = support.read(root .. "/Makefile"), 0
        for _, path in ipairs {"backend/cuda/cuda.mk", "dist/mpi/mpi.mk"} do
            makefiles = makefiles .. "\n" .. support.read(root .. "/runtime/" .. path)
        end
        for _, page in ipairs(pages.list(root)) do
            for target in text_of(page):gmatch("`make ([%l%d][%w-]*)") do
                local found = false
                for heads in makefiles:gmatch("\n([%l%d][%w -]*):") do
                    found = found or (" " .. heads .. " "):find(" " .. target .. " ", 1, true)
                end
                assert(found, page .. " names make " .. target)
                count = count + 1
            end
        end
        assert.is_true(count > 15, count .. " targets")
    end)
end)

describe("a command that is not run", function()
    local folder

    -- Each program that a page may call, in the place of the true one: advrt reads its options and shows
    -- its help, make and tests/run look whether there is what they are asked for, and mpirun, srun start
    -- what stands behind their own options, tar unpacks a folder. No other program is there.
    setup(function()
        folder = follow.workplace()
        os.remove(folder .. "/tests")
        assert(lfs.mkdir(folder .. "/tests"))
        local advrt = "exec " .. quote(system.options.executable) .. " --device cpu \"${@/cuda*/cpu}\" --help"
        program(folder .. "/bin/advrt", advrt)
        program(folder .. "/build/advrt", advrt)
        program(folder .. "/bin/make", "PATH=/usr/bin:/bin; cd " .. quote(root) .. [[

            for word; do
                case $word in
                *=*) name=${word%%=*}; grep -qE "^$name +=|[(]$name[)]" Makefile || {
                    echo "no variable $name"; exit 1; } ;;
                *) grep -rqE "^([a-z0-9-]+ )*$word( |:)" Makefile runtime --include=Makefile \
                    --include='*.mk' || { echo "no target $word"; exit 1; } ;;
                esac
            done]])
        program(folder .. "/tests/run", "shift; for word; do /bin/ls " .. quote(root)
            .. "/tests/*/*$word* >/dev/null || exit 1; done")
        for _, name in ipairs {"mpirun", "srun"} do
            program(folder .. "/bin/" .. name,
                'until [[ $# == 0 || $1 == *advrt ]]; do shift; done; exec "$@"')
        end
        -- An archive holds a folder of its name: the bundle with bin/advrt, the GPU pack with `check`.
        program(folder .. "/bin/tar", [[PATH=/usr/bin:/bin; name=${2##*/}; name=${4:-.}/${name%.tar.xz}
            mkdir -p "$name/bin"; printf '#!/bin/sh\n' >"$name/check"; chmod +x "$name/check"
            cp build/advrt "$name/bin"]])
        -- An environment's pip installs advrt alone.
        program(folder .. "/bin/python3", [==[PATH=/usr/bin:/bin
            if [[ "$1 $2" == "-m venv" ]]; then
                mkdir -p "$3/bin"; cp build/advrt "$3/bin"
                printf '#!/bin/sh\n' >"$3/bin/pip"; chmod +x "$3/bin/pip"
            else
                [ -e "$1" ] || { echo "there is no $1"; exit 1; }
            fi]==])
    end)
    teardown(function() support.remove(folder) end)

    local function dry(script)
        support.write(folder .. "/script", "set -eu\n" .. script)
        return support.shell(("cd %s && SLURM_ARRAY_TASK_ID=1 SLURM_CPUS_PER_TASK=1 HOME=%s PATH=%s "
            .. "/bin/bash script"):format(quote(folder), quote(folder), quote(folder .. "/bin")))
    end

    it("has options that there are", function()
        local count = 0
        for _, page in ipairs(pages.list(root)) do
            local blocks = pages.blocks(text_of(page))
            for _, block in ipairs(blocks) do
                if block.name then support.write(folder .. "/" .. block.name, block.body .. "\n") end
            end
            for _, block in ipairs(blocks) do
                if block.tags and block.tags.needs then
                    local status, out, err = dry(pages.script(block))
                    assert(status == 0, ("%s:%d: %s%s"):format(page, block.line, out, err))
                    count = count + 1
                end
            end
        end
        assert.is_true(count > 12, count .. " blocks")
    end)

    it("fails here where it has an option, a target, a script or a program that there is not", function()
        for _, script in ipairs {"advrt equal_perturbation --iteration 5", "make tset", "make bench BENHC=1",
            "mpirun -n 2 build/advrt experiments/none.lua", "srun --mpi=pmix build/advrt theorem --every",
            "advrt theorem --every 10\nadvrt theorem --evry 10", "curl http://localhost/",
            "build/advrt --plan quick theorem", "tests/run build no-such-test", "python3 none.py"} do
            assert.not_equal(0, (dry(script)), script)
        end
    end)
end)

describe("the reader of pages", function()
    it("refuses a block of commands without a tag, with two, or with one that there is not", function()
        local function faults(text) return table.concat(pages.faults("p", text), "\n") end
        assert.equal("", faults("```sh run\nls\n```\n```lua\n-- x.lua\n```\n"
            .. "```console slow fails\n$ ls\n```"))
        assert.equal("p:1: the block has the tag fails without run or slow",
            faults("```sh needs=gpu fails\nls\n```"))
        assert.equal("p:2: the block needs one tag: run, slow or needs=WHAT", faults("\n```sh\nls\n```"))
        assert.equal("p:1: the block needs one tag: run, slow or needs=WHAT",
            faults("```sh run slow\nls\n```"))
        assert.equal("p:1: the block has the unknown tag 'needs=luck'",
            faults("```sh needs=luck\nls\n```"))
        assert.equal("p:1: the block has no language", faults("```\nls\n```"))
        assert.equal("p:1: the block is not closed", faults("```sh run\nls"))
        assert.equal("p:3: a command outside a fenced block", faults("Run\n\n    make test\n"))
        assert.equal("", faults("Run\n\n    Images: 4\n"))
    end)

    it("holds output to what the page says, but for numbers and blanks", function()
        local function missing(page, output)
            local expected = {}
            for line in (page .. "\n"):gmatch("(.-)\n") do expected[#expected + 1] = line end
            return pages.missing(expected, output)
        end
        assert.is_nil(missing("CE   41.7 ± 20.9\nend", "CE  3 ± 1e-5\nend\n"))
        assert.is_nil(missing("a\n...\nd", "a\nb\nc\nd\ne\n"))
        assert.equal("d", missing("a\nd", "a\nb\nd\n"))
        assert.equal("b", missing("...\nb", "a\nc\n"))
        assert.equal("CE 1", missing("CE 1", "CE-Sign 1\n"))
    end)

    it("finds links and headings as GitHub does", function()
        local folder = support.folder()
        support.write(folder .. "/a.md", "# One, two & `x_y`\n```sh run\n# no heading\n```\n"
            .. "## S1, S2\n## S1, S2\n"
            .. "[a](#one-two--x_y) [b](#s1-s2-1) [c](a.md#s1-s2) [d](https://x.org/y) `[e](none.md)`\n"
            .. "[f\ng](none.md) [h](#no-heading) ![i](none.svg) [j](a.md)\n")
        assert.same({"a.md: none.md is not there", "a.md: #no-heading has no such heading",
            "a.md: none.svg is not there"}, pages.dead(folder, "a.md"))
        support.remove(folder)
    end)
end)
