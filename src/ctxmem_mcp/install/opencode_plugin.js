// It passes events of a session to `ctxmem-mcp hook opencode`, and puts what that prints before the first prompt.
import { spawn, spawnSync } from "node:child_process"

const subagents = new Set()
const started = new Set()
const created = new Set()
// By session: how many more prompts may bring what its summary left out. A hook that takes too long prints nothing.
const compacted = new Map()
const TRIES = 3

export const Ctxmem = async ({ directory }) => {
  const event = (name, session, fields) =>
    JSON.stringify({ hook_event_name: name, session_id: session, cwd: directory, ...fields })

  // Resolves to what the hook prints; to nothing if it fails.
  const send = (...given) =>
    new Promise((resolve) => {
      const child = spawn(COMMAND[0], COMMAND.slice(1), { stdio: ["pipe", "pipe", "ignore"] })
      let printed = ""
      child.stdout.on("data", (data) => (printed += data))
      child.on("error", () => resolve(""))
      child.on("close", () => resolve(printed))
      child.stdin.on("error", () => {})
      child.stdin.end(event(...given))
    })

  const context = async (session) => {
    const tries = compacted.get(session)
    const source = tries ? "compact" : created.has(session) ? "startup" : "resume"
    compacted.delete(session)
    try {
      return JSON.parse(await send("SessionStart", session, { source })).hookSpecificOutput.additionalContext
    } catch {
      if (tries > 1) compacted.set(session, tries - 1)
      return ""
    }
  }

  return {
    event: async ({ event: { type, properties } }) => {
      if (type === "session.created") {
        ;(properties.info.parentID ? subagents : created).add(properties.info.id)
      } else if (type === "session.compacted") {
        compacted.set(properties.sessionID, TRIES)
      } else if (type === "session.idle") {
        // opencode may exit right after this event, and does not wait for plugins.
        spawnSync(COMMAND[0], COMMAND.slice(1), { input: event("Stop", properties.sessionID), timeout: 5000 })
      }
    },
    "chat.message": async ({ sessionID }, { message, parts }) => {
      const prompts = parts.filter((part) => part.type === "text" && !part.synthetic)
      const isStart = !subagents.has(sessionID) && (!started.has(sessionID) || compacted.has(sessionID))
      started.add(sessionID)
      const text = isStart ? await context(sessionID) : ""
      for (const prompt of prompts) send("UserPromptSubmit", sessionID, { prompt: prompt.text })
      // Parts are sorted by their ids, which begin with the time in hexadecimal digits: this one is the first.
      const id = `prt_0${message.id.replace(/^msg_/, "")}`
      if (text) parts.unshift({ id, sessionID, messageID: message.id, type: "text", text, synthetic: true })
    },
  }
}
