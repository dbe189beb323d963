-- What wrk sends where a plain GET will not do. Arguments behind `--`:
--   body FILE             POST the file's content
--   routes FILE FIRST     GET each line's path (and host, behind a tab) in turn, beginning at line FIRST

local function read_whole(name)
   local file = assert(io.open(name, "rb"))
   local text = file:read("*a")
   file:close()
   return text
end

local function in_turn(name, first)
   local requests = {}
   for line in io.lines(name) do
      local path, host = line:match("^(%S+)\t(%S+)$")
      requests[#requests + 1] = wrk.format("GET", path, {Host = host})
   end
   local at = first
   request = function()
      at = at % #requests + 1
      return requests[at]
   end
end

function init(args)
   if args[1] == "body" then
      wrk.method = "POST"
      wrk.body = read_whole(args[2])
   else
      in_turn(args[2], tonumber(args[3]))
   end
end
